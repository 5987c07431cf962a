# What the rules share: places, limits, the environment of the jobs, and the functions that find their inputs.

RESULTS = f"results/{STUDY.name}"
LIMITS = STUDY.limits
GPUS = 1 if LIMITS["device"] == "cuda" else 0
FORMATS = {"tables": ["csv", "md", "tex"], "figures": ["pdf", "png"]}

# Everything a job's environment needs, in one place. A conda environment has its own python; without one the
# python that runs Snakemake does the work. Memory that was freed is kept, because tensors of the same size return.
ENVIRONMENT = {
    "PYTHONPATH": os.path.join(workflow.basedir, "src"),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MPLBACKEND": "agg",
    "HF_HUB_OFFLINE": "1",
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


def bottom_of(wildcards):
    """The weights that an ensemble's shared layers come from."""
    bottom = STUDY.models[wildcards.model].get("bottom")
    return f"{RESULTS}/models/{bottom}/weights.safetensors" if bottom else []


def row_files(table, slugs, file):
    """One file of the runs of some rows of a resolved table."""
    folder = f"{RESULTS}/attacks/{table['model']}/{table['targets']}"
    return expand("{folder}/{slug}/{file}", folder=folder, slug=sorted(set(slugs)), file=file)


def table_records(wildcards):
    """The records that a table sums up."""
    table = STUDY.tables[wildcards.table]
    return row_files(table, [row["slug"] for row in table["rows"]], "records.parquet")


def published_of(wildcards):
    """The published table; as seen from the checkout, so that a checkout that is moved makes nothing again."""
    name = STUDY.tables[wildcards.table]["published"]
    home = "" if os.path.samefile(workflow.basedir, os.getcwd()) else workflow.basedir
    return os.path.join(home, "config", "published", name) if name else []


def figure_input(wildcards):
    """The runs, the model and the data set that a figure shows."""
    figure = STUDY.figures[wildcards.figure]
    table = figure["table"]
    slugs = candidate_slugs(figure)
    return {
        "records": row_files(table, slugs, "records.parquet"),
        "images": row_files(table, slugs, "adversarials.safetensors"),
        "description": f"{RESULTS}/models/{table['model']}/classifier.json",
        "card": f"{RESULTS}/data/{table['dataset']}/card.json",
    }
