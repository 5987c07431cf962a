"""What the attacks are called in print; told once, for studies and for the report."""

from __future__ import annotations

ATTACK_NAMES = {
    "jma": "JMA",
    "jma_refined": "Refined JMA",
    "carlini_wagner": "C&W",
    "ecoc_attack": "ECOC attack",
    "ml_carlini_wagner": "ML-C&W",
    "lots": "LOTS",
    "ml_deepfool": "ML-DeepFool",
    "mla_lp": "MLA-LP",
    "sema_ml": "SemA-ML",
    "gradient": "Gradient",
    "gradient_cross_entropy": "CE",
    "gradient_cross_entropy_sign": "CE-sign",
    "gradient_logit": "Logit",
    "gradient_m_logit": "M-logit",
    "ifgs": "IFGS",
    "over_optimised": "Over-optimised",
    "multi_class_optimised": "Multi-class-optimised",
    "lbfgs": "L-BFGS",
}


def attack_name(attack: str) -> str:
    """An attack's name as papers print it."""
    return ATTACK_NAMES.get(attack, attack.replace("_", " "))
