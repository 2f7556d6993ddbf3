"""Writes YAML that people read: several lines as a block, everything in the order given."""

from __future__ import annotations

import yaml

_WIDTH = 100
_RARE_BREAKS = ("\r", "\x85", "\u2028", "\u2029")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    if any(rare in text for rare in _RARE_BREAKS):
        # PyYAML writes these unescaped outside of quotation marks and reads them as line ends.
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(content: object) -> str:
    """Plain values as YAML that reads back as the same values.

    Raises:
        yaml.YAMLError: something that is not a plain value.
    """
    return str(
        yaml.dump(content, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=_WIDTH)
    )
