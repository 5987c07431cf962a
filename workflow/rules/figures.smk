# Figures: attacked images with their perturbations, and the geometry of a target.


rule figure:
    input:
        unpack(figure_input),
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
        figure=figures_of("examples"),
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=asks("figure", "mem_mb"),
        runtime=asks("figure", "runtime"),
    params:
        spec=lambda wildcards: json.dumps(STUDY.figures[wildcards.figure]),
        results=lambda wildcards, output: os.path.dirname(os.path.dirname(output.png)),
        stem=lambda wildcards, output: os.path.splitext(output.png)[0],
        code=code_fingerprint("wolfe.report.figures"),
    message:
        "Figure {wildcards.figure}"
    shell:
        "python -m wolfe --log {log:q} figure --spec {params.spec:q} --results {params.results:q} --out {params.stem:q}"


rule geometry:
    input:
        unpack(geometry_input),
    output:
        geometry=f"{RESULTS}/geometry/{{figure}}.json",
        run=f"{RESULTS}/geometry/{{figure}}.run.json",
    log:
        f"{RESULTS}/logs/geometry/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/geometry/{{figure}}.tsv"
    wildcard_constraints:
        figure=figures_of("geometry"),
    conda:
        "../../envs/attacks.yaml"
    threads: all_cores
    resources:
        mem_mb=asks("geometry", "mem_mb"),
        runtime=asks("geometry", "runtime"),
        gpu=GPUS,
    params:
        spec=lambda wildcards: json.dumps(STUDY.figures[wildcards.figure]),
        model=lambda wildcards, input: os.path.dirname(input.weights),
        data=lambda wildcards, input: os.path.dirname(input.card),
        device=LIMITS["device"],
        code=code_fingerprint("wolfe.experiments.geometry"),
    message:
        "Measuring the geometry for figure {wildcards.figure}"
    shell:
        "python -m wolfe --log {log:q} geometry --model {params.model:q} --targets {input.targets:q} "
        "--data {params.data:q} --spec {params.spec:q} --out {output.geometry:q} --device {params.device}"


rule geometry_figure:
    input:
        geometry=f"{RESULTS}/geometry/{{figure}}.json",
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
        figure=figures_of("geometry"),
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=asks("figure", "mem_mb"),
        runtime=asks("figure", "runtime"),
    params:
        spec=lambda wildcards: json.dumps(STUDY.figures[wildcards.figure]),
        stem=lambda wildcards, output: os.path.splitext(output.png)[0],
        code=code_fingerprint("wolfe.report.geometry"),
    message:
        "Figure {wildcards.figure}"
    shell:
        "python -m wolfe --log {log:q} figure --spec {params.spec:q} --geometry {input.geometry:q} --out {params.stem:q}"
