"""The files of deploy/ci as tests read them: the step as a module, YAML as runners read it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ruamel.yaml import YAML

CI = Path(__file__).resolve().parents[1] / "deploy" / "ci"
STEP = CI / "gate_step.py"
ACTION = CI / "github" / "action.yml"
TEMPLATE = CI / "gitlab" / "em-gate.gitlab-ci.yml"
ANALYSIS = CI / "argo" / "analysis-template.yaml"


def documents(file: Path) -> list[Any]:
    """All documents of a YAML file, by YAML 1.2: ``on`` is a word there, not a truth value."""
    return list(YAML(typ="safe").load_all(file.read_text(encoding="utf-8")))


def module_of(file: Path) -> ModuleType:
    """A script as a module; it has no package, because runners are given the file alone."""
    name = f"ci_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
