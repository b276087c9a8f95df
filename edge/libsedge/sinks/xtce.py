"""The XTCE document (OMG XTCE 1.2) of the packets of `libsedge.sinks.telemetry`, made from the same table."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence

from libsedge.sinks.telemetry import DEFAULT_APID, FIELDS, KINDS, NO_CLASS, TRAILER, Field
from libsedge.sources.space_packets import check_apid

NAMESPACE = "http://www.omg.org/spec/XTCE/20180204"
#: the primary header: name, bits
PRIMARY = (
    ("CCSDS_VERSION", 3),
    ("CCSDS_TYPE", 1),
    ("CCSDS_SECONDARY_HEADER", 1),
    ("CCSDS_APID", 11),
    ("CCSDS_SEQUENCE_FLAGS", 2),
    ("CCSDS_SEQUENCE_COUNT", 14),
    ("CCSDS_LENGTH", 16),
)
ROOT = "CCSDSPacket"


def document(apid: int = DEFAULT_APID, labels: Sequence[str] = ()) -> str:
    """The document's text; with a bundle's `labels` CLASS_INDEX names its classes. ConfigError for no APID."""
    check_apid(apid)
    root = ElementTree.Element("SpaceSystem", {"xmlns": NAMESPACE, "name": "libsedge"})
    _add(root, "LongDescription").text = "Decisions of libsedge about LIBS spectra, one a packet."
    telemetry = _add(root, "TelemetryMetaData")
    types, parameters = _add(telemetry, "ParameterTypeSet"), _add(telemetry, "ParameterSet")
    for bits in sorted({bits for _, bits in PRIMARY}):
        _integer(types, f"U{bits}", bits)
    for name, bits in PRIMARY:
        _add(parameters, "Parameter", name=name, parameterTypeRef=f"U{bits}")
    for field in (*FIELDS, TRAILER):
        _type(types, field, labels)
        parameter = _add(parameters, "Parameter", name=field.name, parameterTypeRef=f"{field.name}_TYPE")
        _add(parameter, "LongDescription").text = field.about
    containers = _add(telemetry, "ContainerSet")
    _container(containers, ROOT, [name for name, _ in PRIMARY], abstract="true")
    decision = [field.name for field in (*FIELDS, TRAILER)]
    _container(containers, "Decision", decision, base=ROOT, where={"CCSDS_APID": apid}, abstract="true")
    for value, kind in KINDS.items():
        name = f"{kind.capitalize()}Decision"
        _container(containers, name, [], base="Decision", where={"KIND": kind}, about=f"KIND {value}")
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _encoding(parent: ElementTree.Element, bits: int) -> ElementTree.Element:
    return _add(parent, "IntegerDataEncoding", sizeInBits=str(bits), encoding="unsigned")


def _integer(types: ElementTree.Element, name: str, bits: int) -> None:
    _encoding(_add(types, "IntegerParameterType", name=name, signed="false", sizeInBits=str(bits)), bits)


def _type(types: ElementTree.Element, field: Field, labels: Sequence[str]) -> None:
    name = f"{field.name}_TYPE"
    values: Mapping[int, str] | None = field.values
    if field.name == "CLASS_INDEX" and labels:
        values = {**dict(enumerate(labels)), NO_CLASS: "(none)"}
    if field.code.endswith("s"):
        binary = _add(_add(types, "BinaryParameterType", name=name), "BinaryDataEncoding")
        _add(_add(binary, "SizeInBits"), "FixedValue").text = str(field.bits)
    elif values is not None:
        enumerated = _add(types, "EnumeratedParameterType", name=name)
        _encoding(enumerated, field.bits)
        entries = _add(enumerated, "EnumerationList")
        for value, label in values.items():
            _add(entries, "Enumeration", value=str(value), label=label)
    elif field.scale is not None:
        calibrated = _encoding(_add(types, "FloatParameterType", name=name, sizeInBits="64"), field.bits)
        polynomial = _add(_add(calibrated, "DefaultCalibrator"), "PolynomialCalibrator")
        _add(polynomial, "Term", coefficient="0", exponent="0")
        _add(polynomial, "Term", coefficient=repr(field.scale), exponent="1")
    else:
        _integer(types, name, field.bits)


def _container(
    containers: ElementTree.Element,
    name: str,
    entries: Sequence[str],
    *,
    base: str | None = None,
    where: Mapping[str, object] | None = None,
    abstract: str = "false",
    about: str | None = None,
) -> None:
    container = _add(containers, "SequenceContainer", name=name, abstract=abstract)
    if about is not None:
        _add(container, "LongDescription").text = about
    entry_list = _add(container, "EntryList")
    for entry in entries:
        _add(entry_list, "ParameterRefEntry", parameterRef=entry)
    if base is not None:
        criteria = _add(_add(container, "BaseContainer", containerRef=base), "RestrictionCriteria")
        comparisons = _add(criteria, "ComparisonList")
        for parameter, value in (where or {}).items():
            _add(comparisons, "Comparison", parameterRef=parameter, value=str(value))
