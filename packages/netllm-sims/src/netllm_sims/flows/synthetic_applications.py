"""What generated applications and attacks send: a law of sizes and pauses for each class.

Source: ours. Each law follows the protocol that it names; its numbers are of the order that
captures of such programs show, and no published trace was fitted.
"""

from collections.abc import Callable

from netllm_sims.flows.synthetic_hosts import TCP, UDP
from netllm_sims.flows.synthetic_talk import Talk

ODD_PORTS = {443: (8443, 4443, 9443), 22: (2222, 22022), 53: (5353, 853)}


def web(talk: Talk) -> None:
    """Pages: a request, a reply of very different sizes, and the next one after some thought."""
    own = talk.program
    talk.connect()
    talk.secure()
    for _ in range(1 + talk.rng.poisson(1 + 5 * own.style)):
        talk.up(talk.about(talk.host.request_bytes * own.size, 0.2), pause_ms=40 * own.pace)
        talk.down(talk.about(9_000 * own.size, 1.3))


def video(talk: Talk) -> None:
    """Often a list of segments and a small beginning, then segments that fill the line."""
    own = talk.program
    talk.connect()
    talk.secure()
    request = talk.host.request_bytes * own.size
    for reply in (4_500, 1_100)[: 1 + (own.style < 0.7)] if own.style > 0.3 else ():
        talk.up(talk.about(request, 0.1), pause_ms=25 * own.pace)
        talk.down(talk.about(reply * own.size, 0.3))
    while not talk.full:
        talk.up(talk.about(request, 0.05), pause_ms=12 * own.pace)
        talk.down(talk.about(60_000 * own.size**2, 0.6))


def bulk(talk: Talk) -> None:
    """One file, fetched or sent."""
    own = talk.program
    talk.connect()
    talk.secure()
    talk.up(talk.about(talk.host.request_bytes * own.size, 0.2), pause_ms=20 * own.pace)
    if talk.rng.random() < 0.6 * own.style:
        talk.up(talk.about(4e5, 1.5), pause_ms=3)
        talk.down(talk.about(200, 0.3))
        return
    talk.down(talk.about(4e5, 1.5))


def voip(talk: Talk) -> None:
    """A call: both sides send frames of one size at a steady pace."""
    size, every_ms = ((60, 20), (92, 20), (172, 20), (74, 30))[int(4 * talk.program.style)]
    wide = int(24 * talk.program.size)
    while not talk.full:
        for up in (True, False):
            more = int(talk.rng.integers(0, wide)) if wide > 20 else 0
            talk.datagram(size + more, up=up, gap_ms=talk.about(every_ms / 2, 0.35))


def chat(talk: Talk) -> None:
    """Lines of text, after the pauses of a person."""
    own = talk.program
    talk.connect()
    talk.secure()
    while not talk.full and talk.rng.random() < 0.93:
        pause_ms = talk.about(2_500 * own.pace, 1.0)
        if talk.rng.random() < 0.3 + 0.6 * own.style:
            talk.up(talk.about(190 * own.size, 0.4), pause_ms=pause_ms)
            talk.down(talk.about(95, 0.3))
        else:
            talk.down(talk.about(240 * own.size, 0.4), server_ms=pause_ms)
            talk.up(talk.about(95, 0.3), pause_ms=5)


def ssh(talk: Talk) -> None:
    """A terminal, or commands of a program: keys are agreed on, then small messages."""
    own = talk.program
    _ssh_opening(talk)
    typed = own.style < 0.6
    while not talk.full and talk.rng.random() < 0.96:
        size = 36 if typed else talk.about(90 * own.size, 0.3)
        talk.up(size, pause_ms=talk.about((170 if typed else 700) * own.pace, 0.8))
        talk.down(36 if typed and talk.rng.random() < 0.8 else talk.about(120, 1), server_ms=2)


def dns(talk: Talk) -> None:
    """A name is asked for, often in two families of addresses."""
    if talk.protocol == TCP:
        talk.connect()
        talk.secure()
    for _ in range(1 + int(talk.rng.random() < talk.program.style)):
        talk.up(30 + int(talk.rng.integers(0, 30)), pause_ms=0.3)
        talk.down(60 + talk.about(70, 0.6), server_ms=talk.about(4, 1))


def scan(talk: Talk) -> None:
    """A port is tried: no answer, a refusal, or an opening that is dropped after a look."""
    talk.control(up=True, gap_ms=0, options=True)
    answer = talk.rng.random()
    if answer < 0.4:
        for wait_ms in (1_000, 2_000)[: talk.rng.integers(0, 3)]:
            talk.control(up=True, gap_ms=talk.about(wait_ms, 0.01), options=True)
        return
    opens = answer > 0.7
    talk.control(up=False, gap_ms=talk.about(talk.rtt_ms, 0.1), options=opens)
    if opens and talk.program.style > 0.5:
        talk.down(talk.about(40, 0.4), server_ms=talk.about(10, 0.5))
    if opens:
        talk.control(up=True, gap_ms=talk.about(0.05, 0.3), options=False)


def bruteforce(talk: Talk) -> None:
    """Passwords are tried over SSH, one after the other, as fast as the server or stealth lets."""
    own = talk.program
    _ssh_opening(talk)
    size = 36 + 16 * int(6 * own.style)
    while not talk.full and talk.rng.random() < 0.9:
        talk.up(size, pause_ms=talk.about(60 * own.pace**2, 0.5))
        talk.down(52, server_ms=talk.about(400 * own.pace, 0.5))


def flood(talk: Talk) -> None:
    """The same request or datagram again and again."""
    own = talk.program
    if talk.protocol == UDP:
        while not talk.full:
            talk.datagram(300 * own.size**2, up=True, gap_ms=talk.about(2 * own.pace**2, 0.8))
        return
    talk.connect()
    if talk.port == 443:
        talk.secure()
    while not talk.full and talk.rng.random() < 0.9:
        talk.up(talk.about(350 * own.size, 0.05), pause_ms=talk.about(8 * own.pace**2, 0.8))
        talk.down(talk.about(1_500, 1.0), server_ms=talk.about(60, 1))


def beacon(talk: Talk) -> None:
    """A program calls home: messages of much the same size, at times more or less regular."""
    own = talk.program
    talk.connect()
    talk.secure()
    while not talk.full and talk.rng.random() < 0.95:
        pause_ms = talk.about(3_000 * own.pace, 0.03 + 0.6 * own.style)
        talk.up(talk.about(200 * own.size, 0.05), pause_ms=pause_ms)
        talk.down(talk.about(110, 0.1))


def game(talk: Talk) -> None:
    """Small updates from the player, larger ones of the world, at the pace of a game's server."""
    own = talk.program
    every_ms = (16.0, 33.0, 50.0)[int(3 * own.style)]
    while not talk.full:
        talk.datagram(
            talk.about(52 * own.size, 0.25), up=True, gap_ms=talk.about(every_ms / 2, 0.4)
        )
        talk.datagram(talk.about(160, 0.5), up=False, gap_ms=talk.about(every_ms / 2, 0.4))


def exfiltration(talk: Talk) -> None:
    """Pieces of files leave at regular times; short answers come back."""
    own = talk.program
    talk.connect()
    talk.secure()
    while not talk.full:
        talk.up(talk.about(3_500 * own.size, 0.2), pause_ms=talk.about(600 * own.pace, 0.15))
        talk.down(110)


def _ssh_opening(talk: Talk) -> None:
    """Versions, keys, and who it is."""
    talk.connect()
    talk.up(22 + talk.host.hello_bytes % 20, pause_ms=1)
    talk.down(talk.about(30, 0.2), server_ms=8)
    talk.up(1_000 + talk.host.hello_bytes % 400)
    talk.down(talk.about(1_050, 0.08), server_ms=1)
    talk.up(48, pause_ms=4)
    talk.down(talk.about(500, 0.15), server_ms=5)
    talk.up(talk.about(64, 0.2), pause_ms=6)
    talk.down(52, server_ms=2)


Law = Callable[[Talk], None]
BENIGN: dict[str, Law] = {
    "bulk": bulk,
    "chat": chat,
    "dns": dns,
    "ssh": ssh,
    "video": video,
    "voip": voip,
    "web": web,
}
ATTACKS: dict[str, Law] = {
    "beacon": beacon,
    "bruteforce": bruteforce,
    "flood": flood,
    "scan": scan,
}
UNKNOWN: dict[str, Law] = {"exfiltration": exfiltration, "game": game}
"""Classes that only the setting `unknown-classes` has, and only to test: an attack, and no one."""
HARMLESS = (*BENIGN, "game")
LAWS = BENIGN | ATTACKS | UNKNOWN
