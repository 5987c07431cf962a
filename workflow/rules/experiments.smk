# Experiments: what is measured on trained classifiers and finished attack runs, and the figures drawn from it and
# from what was written down at every step of an attack.


rule experiment:
    input:
        lambda wildcards: below_results(experiment_files(STUDY.experiments[wildcards.experiment])),
    output:
        records=f"{RESULTS}/experiments/{{experiment}}/records.parquet",
        run=f"{RESULTS}/experiments/{{experiment}}/run.json",
    log:
        f"{RESULTS}/logs/experiment/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/experiment/{{experiment}}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: all_cores
    resources:
        mem_mb=asks("experiment", "mem_mb"),
        runtime=asks("experiment", "runtime"),
        gpu=GPUS,
    params:
        spec=lambda wildcards: as_json(STUDY.experiments[wildcards.experiment]),
        results=lambda wildcards, output: os.path.dirname(os.path.dirname(os.path.dirname(output.run))),
        folder=lambda wildcards, output: os.path.dirname(output.run),
        seed=STUDY.seed,
        device=LIMITS["device"],
        code=lambda wildcards: code_fingerprint(f"wolfe.experiments.{STUDY.experiments[wildcards.experiment]['kind']}"),
    message:
        "Experiment {wildcards.experiment}"
    shell:
        "python -m wolfe --log {log:q} experiment --spec {params.spec:q} --results {params.results:q} "
        "--out {params.folder:q} --seed {params.seed} --device {params.device}"


rule chart:
    input:
        lambda wildcards: below_results(chart_files(STUDY.figures[wildcards.figure])),
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
        figure=figures_of(*CHARTS),
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=asks("figure", "mem_mb"),
        runtime=asks("figure", "runtime"),
    params:
        spec=lambda wildcards: json.dumps(STUDY.figures[wildcards.figure]),
        results=lambda wildcards, output: os.path.dirname(os.path.dirname(output.png)),
        stem=lambda wildcards, output: os.path.splitext(output.png)[0],
        code=code_fingerprint("wolfe.report.charts"),
    message:
        "Figure {wildcards.figure}"
    shell:
        "python -m wolfe --log {log:q} figure --spec {params.spec:q} --results {params.results:q} --out {params.stem:q}"
