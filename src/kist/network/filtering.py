"""The firewall as the network service uses it: installed once, changed by elements, opened in tables of others.

What is to be there is kept here as well, so that a table that somebody else flushed is put back as it was.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from kist.kernel import conntrack
from kist.kernel import nftables as nft
from kist.model.network import Network
from kist.network import firewall as rules

log = logging.getLogger(__name__)
_REMEMBERED = 256


class Filtering:
    """`active` false: --iptables=false, nothing is installed. `publish_open`: the host's own rules do not keep new
    connections from published ports.
    """

    def __init__(self, instance: str, *, active: bool, publish_open: bool) -> None:
        self._table, self._tag = f"kist_{instance}", f"kist {instance}"
        self.active, self._publish_open = active, publish_open
        self._bridges: set[str] = set()
        self._elements: dict[str, dict[bytes, nft.Element]] = {}  # by set, what is to be in it
        self._rules = 0  # how many the table has; 0 while there is none
        self._ports: deque[int] = deque(maxlen=_REMEMBERED)  # of our own conversations
        self.openings = 0  # rules in chains of others that were needed

    def add_network(self, network: Network) -> None:
        """Raises OSError."""
        if not self.active:
            return
        self._bridges.add(network.bridge)
        elements = rules.of_network(network)
        with self._conversation() as firewall:
            install = [] if self._rules else self._installation(firewall)
            firewall.commit([*install, *rules.changes(self._table, elements, add=True)])
            self._rules = self._rules or _count(firewall, self._table)
            self._keep([elements])
            self._open(firewall)

    def _installation(self, firewall: nft.Firewall) -> list[nft.Request]:
        """In place of what an earlier daemon left, whose first versions had a table of IPv4 alone."""
        return [nft.new_table(self._table), nft.delete_table(self._table), *rules.ruleset(self._table)]

    def _open(self, firewall: nft.Firewall) -> int:
        """Where others drop what is to pass; how many rules that took."""
        opened = rules.openings(
            firewall.chains(), firewall.rules(), self._table, self._tag, sorted(self._bridges), self._publish_open
        )
        if opened:
            firewall.commit(opened)
            self.openings += len(opened)
        return len(opened)

    def remove_network(self, network: Network) -> None:
        self._bridges.discard(network.bridge)
        self.remove([rules.of_network(network)])
        self._close(network.bridge)

    def add(self, elements: Iterable[rules.Elements]) -> None:
        """All in one transaction. Raises OSError."""
        several = [one for one in elements if one]
        self._change(several, add=True)
        self._keep(several)

    def remove(self, elements: Iterable[rules.Elements]) -> None:
        for one in elements:
            for name, listed in one.items():
                for element in listed:
                    self._elements.get(name, {}).pop(element.key, None)
            try:
                self._change([one], add=False)
            except OSError as error:
                log.warning("cannot take elements out of the firewall: %s", error)

    def _keep(self, elements: Iterable[rules.Elements]) -> None:
        for one in elements:
            for name, listed in one.items():
                self._elements.setdefault(name, {}).update({element.key: element for element in listed})

    def forget_datagrams(self, targets: Iterable[tuple[str, int]]) -> None:
        """What comes to these (address, port) of the host by UDP goes where it is led now: a client that goes on
        sending would be led for ever as it was before.
        """
        listed = list(targets)
        if not (listed and self.active):
            return
        try:
            conntrack.forget_datagrams(listed)
        except OSError as error:
            log.warning("clients that send to published UDP ports may have to pause: %s", error.strerror)

    def _change(self, elements: Iterable[rules.Elements], *, add: bool) -> None:
        requests = [request for one in elements for request in rules.changes(self._table, one, add=add)]
        if requests and self.active:
            with self._conversation() as firewall:
                firewall.commit(requests)

    def close(self) -> None:
        """Takes our rules out of the chains of others, when nothing runs any more that needs them."""
        if self.active:
            self._close("")

    def _close(self, bridge: str) -> None:
        try:
            with self._conversation() as firewall:
                requests = rules.closings(firewall.rules(), self._tag, bridge)
                if requests:
                    firewall.commit(requests)
        except OSError as error:
            log.warning("cannot take the openings for bridges back: %s", error)

    # --- what others do to it ---

    def is_own(self, port: int) -> bool:
        """Whether a change was made by this daemon."""
        return port in self._ports

    def repair(self) -> None:
        """Puts back what somebody else took away. Raises OSError."""
        if not self.active or not self._rules:
            return
        with self._conversation() as firewall:
            if not self._is_whole(firewall):
                elements = {name: list(listed.values()) for name, listed in self._elements.items() if listed}
                firewall.commit([*self._installation(firewall), *rules.changes(self._table, elements, add=True)])
                log.warning("somebody changed the table %s, which is put back as it was", self._table)
            if self._open(firewall):
                log.warning("somebody took rules for containers out of other tables, which are put back")

    def _is_whole(self, firewall: nft.Firewall) -> bool:
        if _count(firewall, self._table) != self._rules:
            return False
        ranges = rules.RANGES
        return all(
            len(firewall.elements(self._table, name)) == len(listed) * (2 if name in ranges else 1)
            for name, listed in self._elements.items()
        )

    @contextmanager
    def _conversation(self) -> Iterator[nft.Firewall]:
        """With the kernel, whose errors tell what they are about."""
        try:
            with nft.Firewall() as firewall:
                self._ports.append(firewall.port)
                yield firewall
        except OSError as error:
            raise OSError(error.errno, f"nftables: {error.strerror}", error.filename) from error


def _count(firewall: nft.Firewall, table: str) -> int:
    return sum(rule.table == table and rule.family == nft.NFPROTO_INET for rule in firewall.rules())
