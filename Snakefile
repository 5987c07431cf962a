# The workflow of a study: data, models, targets, attacks, transfer, experiments, tables, figures, report.
#
#   snakemake --cores all                                     the default study, config/embedded.yaml
#   snakemake --cores all --configfile config/other.yaml      another study, never mixed with the default one
#   snakemake --cores all table_jma_04                        one table and what it needs, nothing else
#
# Rules name files and call `python -m wolfe ...`; the work is the package's (src/wolfe).

import json
import os
import shlex
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")
sys.path.insert(0, os.path.join(workflow.basedir, "src"))
from wolfe.fingerprint import code_fingerprint
from wolfe.study import Study, StudyError, candidate_slugs, part_count, rule_graph, transfer_runs
from wolfe.study.experiments import CHARTS
from wolfe.study.needs import chart_files, experiment_files, table_files, table_folder
from wolfe.study.resources import growing
from wolfe.study.roots import fetches

# A `configfile:` is merged with what --configfile names: it is there for those who name nothing.
if not workflow.overwrite_configfiles:

    configfile: os.path.join(workflow.basedir, "config", "embedded.yaml")


try:
    STUDY = Study.from_config(config, files=workflow.configfiles)
except StudyError as error:
    raise WorkflowError(f"The study is wrong. {error}") from None


wildcard_constraints:
    dataset="|".join(STUDY.datasets),
    model="|".join(STUDY.models),
    transfer="|".join(STUDY.transfers) or "none",
    experiment="|".join(STUDY.experiments) or "none",
    table="|".join(STUDY.tables),
    figure="|".join(STUDY.figures) or "none",


include: "workflow/rules/common.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/attacks.smk"
include: "workflow/rules/transfer.smk"
include: "workflow/rules/experiments.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        expand("{results}/tables/{name}.{kind}", results=RESULTS, name=STUDY.tables, kind=FORMATS["tables"]),
        expand("{results}/figures/{name}.{kind}", results=RESULTS, name=STUDY.figures, kind=FORMATS["figures"]),
        f"{RESULTS}/report.html",
    localrule: True
    message:
        f"The report is {RESULTS}/report.html"
