# Attack runs. One job, which is one process, attacks with all rows of a batch: starting torch for each row would
# cost more than many rows do. Finished shards live in the store, so a job that is run again (a row was changed or
# added, the job was killed) repeats nothing that is still valid.

ROW_FILES = ["records.parquet", "adversarials.safetensors", "run.json"]
TRACE_FILES = ["trace.parquet"]

for batch in STUDY.batches:

    rule:
        name:
            f"attack_{batch.name}"
        input:
            weights=f"{RESULTS}/models/{batch.model}/weights.safetensors",
            description=f"{RESULTS}/models/{batch.model}/classifier.json",
            calibration=[f"{RESULTS}/models/{batch.model}/calibration.json"] if LIMITS["calibrate"] else [],
            card=f"{RESULTS}/data/{batch.dataset}/card.json",
            targets=f"{RESULTS}/targets/{batch.model}/{batch.targets}.parquet",
            parts=parts_of(batch),
        output:
            [
                f"{RESULTS}/attacks/{batch.model}/{batch.targets}/{row['slug']}/{file}"
                for row in batch.rows
                for file in (ROW_FILES + TRACE_FILES if row["trace"] else ROW_FILES)
            ],
        log:
            f"{RESULTS}/logs/attack/{batch.name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/attack/{batch.name}.tsv"
        conda:
            "../../envs/attacks.yaml"
        threads: all_cores
        resources:
            mem_mb=asks("attack", "mem_mb"),
            runtime=asks("attack", "runtime"),
            gpu=GPUS,
        params:
            rows=lambda wildcards, rows=as_json(batch.rows): rows,
            model=lambda wildcards, input: os.path.dirname(input.weights),
            data=lambda wildcards, input: os.path.dirname(input.card),
            folder=lambda wildcards, output: os.path.dirname(os.path.dirname(output[0])),
            store=f"{RESULTS}/store",
            seed=STUDY.seed,
            device=LIMITS["device"],
            shard_size=LIMITS["shard_size"],
            batch_size=LIMITS["batch_size"],
            time_limit=f"--time-limit {LIMITS['time_limit']}" if LIMITS["time_limit"] else "",
            code=attack_code(batch),
        message:
            f"Attacking {batch.model} with {len(batch.rows)} rows ({batch.targets}), for {' and '.join(batch.tables)}"
        shell:
            "python -m wolfe --log {log:q} attack-run --model {params.model:q} --targets {input.targets:q} "
            "--data {params.data:q} --rows {params.rows:q} --out {params.folder:q} --store {params.store:q} "
            "--seed {params.seed} --device {params.device} "
            "--shard-size {params.shard_size} --batch-size {params.batch_size} {params.time_limit}"


# Where the study says `limits: {images_per_job: N}`, the images of a larger run are divided among several jobs, which
# leave finished shards in the store; the run's own job, above, then puts them together and attacks what is missing.
rule attack_part:
    input:
        unpack(attack_input),
    output:
        f"{RESULTS}/parts/{{batch}}/{{part}}_of_{{parts}}.json",
    log:
        f"{RESULTS}/logs/attack/{{batch}}/{{part}}_of_{{parts}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/attack/{{batch}}/{{part}}_of_{{parts}}.tsv"
    wildcard_constraints:
        batch="|".join(BATCHES) or "none",
    conda:
        "../../envs/attacks.yaml"
    threads: all_cores
    resources:
        mem_mb=asks("attack", "mem_mb"),
        runtime=asks("attack", "runtime"),
        gpu=GPUS,
    params:
        rows=lambda wildcards: as_json(BATCHES[wildcards.batch].rows),
        model=lambda wildcards, input: os.path.dirname(input.weights),
        data=lambda wildcards, input: os.path.dirname(input.card),
        store=f"{RESULTS}/store",
        seed=STUDY.seed,
        device=LIMITS["device"],
        shard_size=LIMITS["shard_size"],
        batch_size=LIMITS["batch_size"],
        time_limit=f"--time-limit {LIMITS['time_limit']}" if LIMITS["time_limit"] else "",
        code=lambda wildcards: attack_code(BATCHES[wildcards.batch]),
    message:
        "Part {wildcards.part} of {wildcards.parts} of the images of {wildcards.batch}"
    shell:
        "python -m wolfe --log {log:q} attack-run --model {params.model:q} --targets {input.targets:q} "
        "--data {params.data:q} --rows {params.rows:q} --out {output:q} --store {params.store:q} "
        "--part {wildcards.part}/{wildcards.parts} --seed {params.seed} --device {params.device} "
        "--shard-size {params.shard_size} --batch-size {params.batch_size} {params.time_limit}"
