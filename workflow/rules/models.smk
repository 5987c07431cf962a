# Classifiers, and the images and targets that they are attacked with.


rule train:
    input:
        card=lambda wildcards: f"{RESULTS}/data/{STUDY.models[wildcards.model]['dataset']}/card.json",
        bottom=bottom_of,
    output:
        weights=f"{RESULTS}/models/{{model}}/weights.safetensors",
        description=f"{RESULTS}/models/{{model}}/classifier.json",
        metrics=f"{RESULTS}/models/{{model}}/metrics.json",
        training=f"{RESULTS}/models/{{model}}/training.csv",
        run=f"{RESULTS}/models/{{model}}/run.json",
        calibration=[f"{RESULTS}/models/{{model}}/calibration.json"] if LIMITS["calibrate"] else [],
    log:
        f"{RESULTS}/logs/train/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{model}}.tsv"
    # Much waits for a classifier, nothing for an attack but its table.
    priority: 10
    conda:
        "../../envs/models.yaml"
    threads: all_cores
    resources:
        mem_mb=asks("train", "mem_mb"),
        runtime=asks("train", "runtime"),
        gpu=GPUS,
    params:
        spec=lambda wildcards: as_json(STUDY.models[wildcards.model]),
        data=lambda wildcards, input: os.path.dirname(input.card),
        bottom=lambda wildcards, input: f"--bottom {os.path.dirname(input.bottom)}" if input.bottom else "",
        folder=lambda wildcards, output: os.path.dirname(output.weights),
        store=f"{RESULTS}/store",
        seed=STUDY.seed,
        device=LIMITS["device"],
        calibrate="--calibrate" if LIMITS["calibrate"] else "",
        code=code_fingerprint("wolfe.models"),
    message:
        "Training {wildcards.model}"
    shell:
        "python -m wolfe --log {log:q} train {wildcards.model} --spec {params.spec:q} --data {params.data:q} "
        "{params.bottom} {params.calibrate} --out {params.folder:q} --store {params.store:q} "
        "--seed {params.seed} --device {params.device}"


rule targets:
    input:
        weights=f"{RESULTS}/models/{{model}}/weights.safetensors",
        description=f"{RESULTS}/models/{{model}}/classifier.json",
        card=lambda wildcards: f"{RESULTS}/data/{STUDY.models[wildcards.model]['dataset']}/card.json",
    output:
        targets=f"{RESULTS}/targets/{{model}}/{{rule}}.parquet",
        run=f"{RESULTS}/targets/{{model}}/{{rule}}.run.json",
    log:
        f"{RESULTS}/logs/targets/{{model}}/{{rule}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/targets/{{model}}/{{rule}}.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=asks("targets", "mem_mb"),
        runtime=asks("targets", "runtime"),
        gpu=GPUS,
    params:
        spec=lambda wildcards: as_json(STUDY.targets[wildcards.model, wildcards.rule]),
        model=lambda wildcards, input: os.path.dirname(input.weights),
        data=lambda wildcards, input: os.path.dirname(input.card),
        seed=STUDY.seed,
        device=LIMITS["device"],
        code=code_fingerprint("wolfe.experiments.targets"),
    message:
        "Choosing images and targets: {wildcards.model}, {wildcards.rule}"
    shell:
        "python -m wolfe --log {log:q} targets --model {params.model:q} --data {params.data:q} "
        "--spec {params.spec:q} --out {output.targets:q} --seed {params.seed} --device {params.device}"
