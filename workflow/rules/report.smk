# The report, and the graph of the rules in it.


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
        graph=f"{RESULTS}/rulegraph.dot",
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=1500,
        runtime=15,
    params:
        spec=lambda wildcards: json.dumps(STUDY.report_spec()),
        results=lambda wildcards, output: os.path.dirname(output[0]),
        code=code_fingerprint("wolfe.report.page"),
    message:
        "Writing {output}"
    shell:
        "python -m wolfe --log {log:q} report --spec {params.spec:q} --results {params.results:q} "
        "--rulegraph {input.graph:q} --out {output:q}"
