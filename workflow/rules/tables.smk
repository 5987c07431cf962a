# Tables: our numbers beside the published ones, from the records of their rows.


rule table:
    input:
        records=lambda wildcards: below_results(table_files(STUDY.tables[wildcards.table])),
        published=published_of,
    output:
        csv=report(
            f"{RESULTS}/tables/{{table}}.csv", category="Tables", subcategory="{table}", labels={"format": "CSV"}
        ),
        md=f"{RESULTS}/tables/{{table}}.md",
        tex=f"{RESULTS}/tables/{{table}}.tex",
        run=f"{RESULTS}/tables/{{table}}.run.json",
    log:
        f"{RESULTS}/logs/table/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/table/{{table}}.tsv"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=asks("table", "mem_mb"),
        runtime=asks("table", "runtime"),
    params:
        spec=lambda wildcards: json.dumps(STUDY.tables[wildcards.table]),
        attacks=attacks_folder,
        published=lambda wildcards, input: f"--published {shlex.quote(input.published)}" if input.published else "",
        stem=lambda wildcards, output: os.path.splitext(output.csv)[0],
        code=code_fingerprint("wolfe.report.tables"),
    message:
        "Table {wildcards.table}"
    shell:
        "python -m wolfe --log {log:q} table --spec {params.spec:q} --attacks {params.attacks:q} "
        "{params.published} --out {params.stem:q}"
