# The report, and what it shows of the study itself: its resolved form and the graph of the rules.


rule resolved_study:
    output:
        f"{RESULTS}/study.json",
    log:
        f"{RESULTS}/logs/resolved_study.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        content=lambda wildcards: STUDY.report_spec(),
    message:
        "Writing the resolved study"
    script:
        "../scripts/write_json.py"


rule rulegraph:
    output:
        f"{RESULTS}/rulegraph.dot",
    log:
        f"{RESULTS}/logs/rulegraph.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        graph=lambda wildcards: rule_graph(STUDY),
    message:
        "Drawing the graph of the rules"
    shell:
        "printf '%s' {params.graph:q} > {output:q} 2> {log:q}"


rule report:
    input:
        tables=expand("{results}/tables/{name}.{kind}", results=RESULTS, name=STUDY.tables, kind=FORMATS["tables"]),
        figures=expand("{results}/figures/{name}.{kind}", results=RESULTS, name=STUDY.figures, kind=FORMATS["figures"]),
        metrics=expand("{results}/models/{name}/metrics.json", results=RESULTS, name=STUDY.models),
        runs=expand("{results}/models/{name}/run.json", results=RESULTS, name=STUDY.models),
        cards=expand("{results}/data/{name}/card.json", results=RESULTS, name=STUDY.datasets),
        geometry=[
            f"{RESULTS}/geometry/{name}.json" for name, entry in STUDY.figures.items() if entry["kind"] == "geometry"
        ],
        graph=f"{RESULTS}/rulegraph.dot",
        study=f"{RESULTS}/study.json",
    output:
        page=f"{RESULTS}/report.html",
        run=f"{RESULTS}/report.run.json",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=asks("report", "mem_mb"),
        runtime=asks("report", "runtime"),
    params:
        results=lambda wildcards, output: os.path.dirname(output.page),
        code=code_fingerprint("wolfe.report.page"),
    message:
        "Writing {output.page}"
    shell:
        "python -m wolfe --log {log:q} report --spec {input.study:q} --results {params.results:q} "
        "--rulegraph {input.graph:q} --out {output.page:q}"
