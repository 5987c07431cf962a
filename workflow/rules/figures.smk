# Figures: original, perturbation and adversarial image of the attacks of a table.


rule figure:
    input:
        unpack(figure_input),
    output:
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
        png=report(
            f"{RESULTS}/figures/{{figure}}.png", category="Figures", subcategory="{figure}", labels={"format": "PNG"}
        ),
    log:
        f"{RESULTS}/logs/figure/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figure/{{figure}}.tsv"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=2500,
        runtime=15,
    params:
        spec=lambda wildcards: json.dumps(STUDY.figures[wildcards.figure]),
        attacks=lambda wildcards, input: os.path.dirname(os.path.dirname(input.records[0])),
        data=lambda wildcards, input: os.path.dirname(input.card),
        model=lambda wildcards, input: os.path.dirname(input.description),
        stem=lambda wildcards, output: os.path.splitext(output.png)[0],
        code=code_fingerprint("wolfe.report.figures"),
    message:
        "Figure {wildcards.figure}"
    shell:
        "python -m wolfe --log {log:q} figure --spec {params.spec:q} --attacks {params.attacks:q} "
        "--data {params.data:q} --model {params.model:q} --out {params.stem:q}"
