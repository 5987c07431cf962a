# What the rules share: places, limits, the environment of the jobs, and the functions that find their inputs.

RESULTS = f"results/{STUDY.name}"
LIMITS = STUDY.limits
GPUS = 1 if LIMITS["device"] == "cuda" else 0
BATCHES = {batch.name: batch for batch in STUDY.batches}
FORMATS = {"tables": ["csv", "md", "tex"], "figures": ["pdf", "png"]}

# Everything a job's environment needs, in one place. A conda environment has its own python; without one the
# python that runs Snakemake does the work. Memory that was freed is kept, because tensors of the same size return.
ENVIRONMENT = {
    "PYTHONPATH": os.path.join(workflow.basedir, "src"),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MPLBACKEND": "agg",
    # What run files say of the study. Not a parameter: then an edited title would run everything again.
    "WOLFE_STUDY": STUDY.report_spec()["sha256"],
    # Nothing asks a hub for anything unless the study's files are to be fetched.
    **({} if fetches({"datasets": STUDY.datasets, "models": STUDY.models}) else {"HF_HUB_OFFLINE": "1"}),
}
EXPORTS = [f"{name}={shlex.quote(value)}" for name, value in ENVIRONMENT.items()]
if not workflow.deployment_settings.deployment_method:
    EXPORTS.append(f'PATH={shlex.quote(os.path.dirname(sys.executable))}:"$PATH"')
shell.prefix(f"set -euo pipefail; export {' '.join(EXPORTS)}; ".replace("{", "{{").replace("}", "}}"))


def as_json(entry):
    """An entry as the command line takes it; the order of its keys in the study's file does not matter."""
    return json.dumps(entry, sort_keys=True)


def all_cores(wildcards):
    """The threads of a training or attack job: all there are, one such job after the other.

    Two jobs that each take all cores slow each other down many times over, and spoil the times that are recorded.
    Snakemake passes the number on to the job as OMP_NUM_THREADS.
    """
    return LIMITS["threads"] or workflow.cores


def asks(stage, resource):
    """What a job of a stage asks a cluster for; it grows with each attempt."""
    return growing(LIMITS, stage, resource)


def bottom_of(wildcards):
    """The weights that an ensemble's shared layers come from."""
    bottom = STUDY.models[wildcards.model].get("bottom")
    return f"{RESULTS}/models/{bottom}/weights.safetensors" if bottom else []


def attack_code(batch):
    """The fingerprint of the code that the rows of a batch run."""
    attacks = sorted({f"wolfe.attacks.{row['attack']}" for row in batch.rows})
    return code_fingerprint("wolfe.experiments.attack_run", *attacks)


def attack_input(wildcards):
    """What the rows of a batch are run on."""
    batch = BATCHES[wildcards.batch]
    model = f"{RESULTS}/models/{batch.model}"
    return {
        "weights": f"{model}/weights.safetensors",
        "description": f"{model}/classifier.json",
        "calibration": [f"{model}/calibration.json"] if LIMITS["calibrate"] else [],
        "card": f"{RESULTS}/data/{batch.dataset}/card.json",
        "targets": f"{RESULTS}/targets/{batch.model}/{batch.targets}.parquet",
    }


def parts_of(batch):
    """The lists of what the jobs that a batch's images are divided among left in the store, if it is divided."""
    parts = part_count(STUDY, batch)
    names = [f"{number}_of_{parts}" for number in range(1, parts + 1)] if parts > 1 else []
    return [f"{RESULTS}/parts/{batch.name}/{name}.json" for name in names]


def row_files(model, targets, rows, file):
    """One file of the runs of some rows."""
    folder = f"{RESULTS}/attacks/{model}/{targets}"
    return [f"{folder}/{name}/{file}" for name in sorted({row["slug"] for row in rows})]


def below_results(names):
    """Files of the study's results by their names there."""
    return [f"{RESULTS}/{name}" for name in names]


def published_of(wildcards):
    """The published table; as seen from the checkout, so that a checkout that is moved makes nothing again."""
    name = STUDY.tables[wildcards.table].get("published")
    home = "" if os.path.samefile(workflow.basedir, os.getcwd()) else workflow.basedir
    return os.path.join(home, "config", "published", name) if name else []


def attacks_folder(wildcards):
    """Where what a table sums up lies: in one folder, or in several below it."""
    return os.path.join(RESULTS, table_folder(STUDY.tables[wildcards.table]))


def figure_input(wildcards):
    """The runs, the models and the data sets that a figure shows."""
    parts = STUDY.figures[wildcards.figure]["parts"]
    shown = [(part["table"], [{"slug": name} for name in candidate_slugs(part)]) for part in parts]
    places = [(table["model"], table["targets"], rows) for table, rows in shown]
    return {
        "records": sum((row_files(*place, "records.parquet") for place in places), []),
        "images": sum((row_files(*place, "adversarials.safetensors") for place in places), []),
        "descriptions": sorted({f"{RESULTS}/models/{table['model']}/classifier.json" for table, _ in shown}),
        "cards": sorted({f"{RESULTS}/data/{table['dataset']}/card.json" for table, _ in shown}),
    }


def transfer_input(wildcards):
    """The runs, the classifiers and the data set of a transfer."""
    transfer = STUDY.transfers[wildcards.transfer]
    models = [model["name"] for model in transfer["models"]]
    folders = [f"{RESULTS}/attacks/{model}/{targets}/{slug}" for model, targets, slug in transfer_runs(transfer)]
    return {
        "runs": [f"{folder}/run.json" for folder in folders],
        "records": [f"{folder}/records.parquet" for folder in folders],
        "images": [f"{folder}/adversarials.safetensors" for folder in folders],
        "weights": [f"{RESULTS}/models/{model}/weights.safetensors" for model in models],
        "descriptions": [f"{RESULTS}/models/{model}/classifier.json" for model in models],
        "card": f"{RESULTS}/data/{transfer['dataset']}/card.json",
    }


def geometry_input(wildcards):
    """The model, its targets and its data set, whose geometry a figure shows."""
    table = STUDY.figures[wildcards.figure]["table"]
    return {
        "weights": f"{RESULTS}/models/{table['model']}/weights.safetensors",
        "description": f"{RESULTS}/models/{table['model']}/classifier.json",
        "targets": f"{RESULTS}/targets/{table['model']}/{table['targets']}.parquet",
        "card": f"{RESULTS}/data/{table['dataset']}/card.json",
    }


def figures_of(*kinds):
    """The names of the figures of some kinds, as a wildcard's constraint."""
    return "|".join(name for name, figure in STUDY.figures.items() if figure["kind"] in kinds) or "none"
