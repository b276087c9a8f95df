"""Reading `/metrics` of a running `libsedge run`: the text form of Prometheus, as far as we write it."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from libsedge.errors import SourceError
from libsedge.sources.net import parse_address

_SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_LIMIT = 1 << 20


@dataclass
class Samples:
    """Name -> labels (sorted pairs) -> value."""

    values: dict[str, dict[tuple[tuple[str, str], ...], float]] = field(default_factory=dict)

    def one(self, name: str, default: float = 0.0, **labels: str) -> float:
        """The value of exactly these labels."""
        return self.values.get(name, {}).get(tuple(sorted(labels.items())), default)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Values by one label, in the page's order; other labels are not looked at."""
        return {dict(labels).get(label, ""): value for labels, value in self.values.get(name, {}).items()}

    def labels(self, name: str) -> dict[str, str]:
        """The labels of the only sample of `name`; {} without one."""
        return next((dict(labels) for labels in self.values.get(name, {})), {})

    def percentile(self, name: str, percent: float, **labels: str) -> float | None:
        """Upper edge of the histogram's bucket in which the percentile lies, seconds; None without times."""
        edges = []
        for pairs, count in self.values.get(f"{name}_bucket", {}).items():
            found = dict(pairs)
            edge = found.pop("le")
            if found == labels:
                edges.append((float(edge), count))
        edges.sort()
        if not edges or edges[-1][1] == 0:
            return None
        return next(edge for edge, count in edges if count >= edges[-1][1] * percent / 100)


def _text(escaped: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), escaped)


def parse(page: str) -> Samples:
    """The samples of a page; SourceError for a line that is none."""
    samples = Samples()
    for number, line in enumerate(page.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise SourceError("is not a sample of a metric", field=f"line {number}", value=line[:80])
        labels = tuple(sorted((name, _text(text)) for name, text in _LABEL.findall(match[2] or "")))
        try:
            value = float(match[3])
        except ValueError:
            raise SourceError("is not a number", field=f"line {number}", value=match[3][:80]) from None
        samples.values.setdefault(match[1], {})[labels] = value
    return samples


def fetch(address: str, timeout_s: float = 2.0) -> Samples:
    """The metrics at a loopback `HOST:PORT` (`libsedge run --health`); SourceError where there is none."""
    parse_address(address, free=False)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/metrics", timeout=timeout_s) as answer:
            page = answer.read(_LIMIT)
    except (OSError, urllib.error.URLError) as error:
        raise SourceError(f"nobody answers: {error}", field="health", value=address) from error
    return parse(page.decode("utf-8", "replace"))
