"""Studies: reading, validating and resolving the YAML files under `config/`. Nothing here imports torch."""

from wolfe.study.batches import Batch
from wolfe.study.derived import rows_needed
from wolfe.study.document import attack_names, attack_parameters, schema
from wolfe.study.errors import StudyError
from wolfe.study.figures import candidate_slugs
from wolfe.study.graph import rule_graph, shows
from wolfe.study.parts import part_count
from wolfe.study.plan import Study, load_study
from wolfe.study.transfers import transfer_runs

__all__ = [
    "Batch",
    "Study",
    "StudyError",
    "attack_names",
    "attack_parameters",
    "candidate_slugs",
    "load_study",
    "part_count",
    "rows_needed",
    "rule_graph",
    "schema",
    "shows",
    "transfer_runs",
]
