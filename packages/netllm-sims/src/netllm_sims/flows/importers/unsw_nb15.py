"""UNSW-NB15: normal traffic and nine kinds of attacks of two days."""

from datetime import UTC, datetime
from pathlib import Path

from netllm_sims.files import csv_rows
from netllm_sims.files.csv_rows import number
from netllm_sims.flows.importers._statistics import Row, statistic, table
from netllm_sims.flows.table import Flows

COLUMNS = [
    "srcip",
    "sport",
    "dstip",
    "dsport",
    "proto",
    "state",
    "dur",
    "sbytes",
    "dbytes",
    "sttl",
    "dttl",
    "sloss",
    "dloss",
    "service",
    "Sload",
    "Dload",
    "Spkts",
    "Dpkts",
    "swin",
    "dwin",
    "stcpb",
    "dtcpb",
    "smeansz",
    "dmeansz",
    "trans_depth",
    "res_bdy_len",
    "Sjit",
    "Djit",
    "Stime",
    "Ltime",
    "Sintpkt",
    "Dintpkt",
    "tcprtt",
    "synack",
    "ackdat",
    "is_sm_ips_ports",
    "ct_state_ttl",
    "ct_flw_http_mthd",
    "is_ftp_login",
    "ct_ftp_cmd",
    "ct_srv_src",
    "ct_srv_dst",
    "ct_dst_ltm",
    "ct_src_ltm",
    "ct_src_dport_ltm",
    "ct_dst_sport_ltm",
    "ct_dst_src_ltm",
    "attack_cat",
    "Label",
]
"""Those of NUSW-NB15_features.csv, which the files leave out."""
_NO_STATISTICS = {
    *("srcip", "sport", "dstip", "dsport", "proto", "state", "service"),
    *("stcpb", "dtcpb", "Stime", "Ltime", "attack_cat", "Label"),
}
"""Addresses, text, times and sequence numbers: they name a flow rather than describe it."""
STATISTICS = [name for name in COLUMNS if name not in _NO_STATISTICS]
_PROTOCOLS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "ospf": 89, "sctp": 132}
_OTHER_PROTOCOL = 255


def flows(path: Path) -> tuple[Flows, int]:
    """The flows of a file of UNSW-NB15_1.csv to _4.csv; no row is left out.

    Host is `srcip`, day the date of `Stime` in UTC, class `attack_cat`, or `Normal` where `Label`
    is 0. All other numbers are statistics, but for `stcpb` and `dtcpb`, random numbers that
    identify a flow. Ports may be hexadecimal, `-` is 0, and protocols that are seldom seen are 255.

    Raises:
        ValueError: Another version, or a row that is no flow, with file and line. The training and
            testing sets have no addresses, so hosts could not be told apart.

    Source: Moustafa and Slay, UNSW-NB15 (MilCIS 2015).
    """
    rows = []
    for line, cells in csv_rows.bare_rows(path, len(COLUMNS)):
        row = dict(zip(COLUMNS, cells, strict=True))
        if row["Label"] not in ("0", "1"):
            raise ValueError(
                f"{path}:{line}: the last of {len(COLUMNS)} columns must be 0 or 1, got "
                f"{row['Label']!r:.60}. It must be UNSW-NB15_1.csv to _4.csv, which have no header."
            )
        attack = row["attack_cat"].removesuffix("s") if row["attack_cat"] == "Backdoors" else ""
        at_s = number(path, line, "Stime", row["Stime"], least=0)
        rows.append(
            Row(
                row["srcip"],
                datetime.fromtimestamp(min(at_s, 1e11), UTC).date().isoformat(),
                "Normal" if row["Label"] == "0" else attack or row["attack_cat"] or "unnamed",
                _PROTOCOLS.get(row["proto"].lower(), _OTHER_PROTOCOL),
                _port(path, line, row["dsport"]),
                [statistic(path, line, name, row[name]) for name in STATISTICS],
            )
        )
    return table(rows, STATISTICS), 0


def _port(path: Path, line: int, cell: str) -> int:
    try:
        port = int(cell, 0) if cell not in ("", "-") else 0
    except ValueError:
        port = -1
    if not 0 <= port <= 65_535:
        raise ValueError(
            f"{path}:{line}: `dsport` must be a port, got {cell!r:.60}. Correct or remove the line."
        )
    return port
