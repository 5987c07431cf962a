# Transfer: what other classifiers say of the images of finished attack runs, and the map of it. One job asks all
# classifiers with the same labels about all runs: starting torch for each run would cost more than its passes do.


rule transfer:
    input:
        unpack(transfer_input),
    output:
        records=f"{RESULTS}/transfer/{{transfer}}/records.parquet",
        run=f"{RESULTS}/transfer/{{transfer}}/run.json",
    log:
        f"{RESULTS}/logs/transfer/{{transfer}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/transfer/{{transfer}}.tsv"
    conda:
        "../../envs/attacks.yaml"
    threads: all_cores
    resources:
        mem_mb=asks("transfer", "mem_mb"),
        runtime=asks("transfer", "runtime"),
        gpu=GPUS,
    params:
        runs=lambda wildcards, input: [os.path.dirname(file) for file in input.runs],
        models=lambda wildcards, input: [f"--model={os.path.dirname(file)}" for file in input.weights],
        data=lambda wildcards, input: os.path.dirname(input.card),
        folder=lambda wildcards, output: os.path.dirname(output.run),
        device=LIMITS["device"],
        code=code_fingerprint("wolfe.experiments.transfer"),
    message:
        "Asking the classifiers of {wildcards.transfer} about the images of attacks on each other"
    shell:
        "python -m wolfe --log {log:q} transfer {params.runs:q} {params.models:q} --data {params.data:q} "
        "--out {params.folder:q} --device {params.device}"


rule transfer_figure:
    input:
        table=lambda wildcards: f"{RESULTS}/tables/{STUDY.figures[wildcards.figure]['table']['name']}.csv",
    output:
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
        png=report(
            f"{RESULTS}/figures/{{figure}}.png", category="Figures", subcategory="{figure}", labels={"format": "PNG"}
        ),
        run=f"{RESULTS}/figures/{{figure}}.run.json",
    log:
        f"{RESULTS}/logs/figure/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure/{{figure}}.tsv"
    wildcard_constraints:
        figure=figures_of("transfer"),
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=asks("figure", "mem_mb"),
        runtime=asks("figure", "runtime"),
    params:
        spec=lambda wildcards: json.dumps(STUDY.figures[wildcards.figure]),
        results=lambda wildcards, output: os.path.dirname(os.path.dirname(output.png)),
        stem=lambda wildcards, output: os.path.splitext(output.png)[0],
        code=code_fingerprint("wolfe.report.transfer_map"),
    message:
        "Figure {wildcards.figure}"
    shell:
        "python -m wolfe --log {log:q} figure --spec {params.spec:q} --results {params.results:q} --out {params.stem:q}"
