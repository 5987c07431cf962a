# Data sets: Arrow files and a card that says what they are.


rule dataset:
    output:
        card=f"{RESULTS}/data/{{dataset}}/card.json",
        arrow=directory(f"{RESULTS}/data/{{dataset}}/arrow"),
        run=f"{RESULTS}/data/{{dataset}}/run.json",
    log:
        f"{RESULTS}/logs/dataset/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/dataset/{{dataset}}.tsv"
    priority: 20
    conda:
        "../../envs/data.yaml"
    threads: all_cores
    resources:
        mem_mb=asks("dataset", "mem_mb"),
        runtime=asks("dataset", "runtime"),
    params:
        spec=lambda wildcards: as_json(STUDY.datasets[wildcards.dataset]),
        folder=lambda wildcards, output: os.path.dirname(output.card),
        seed=STUDY.seed,
        code=code_fingerprint("wolfe.data"),
    message:
        "Building the data set {wildcards.dataset}"
    shell:
        "python -m wolfe --log {log:q} dataset {wildcards.dataset} "
        "--spec {params.spec:q} --out {params.folder:q} --seed {params.seed}"
