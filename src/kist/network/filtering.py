"""The firewall as the network service uses it: installed once, changed by elements, opened in tables of others."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from kist.kernel import nftables as nft
from kist.model.network import Network
from kist.network import firewall as rules

log = logging.getLogger(__name__)


class Filtering:
    """`active` false: --iptables=false, nothing is installed. `publish_open`: the host's own rules do not keep new
    connections from published ports.
    """

    def __init__(self, instance: str, *, active: bool, publish_open: bool) -> None:
        self._table, self._tag = f"kist_{instance}", f"kist {instance}"
        self._active, self._publish_open = active, publish_open
        self._bridges: set[str] = set()
        self._installed = False
        self.openings = 0  # rules in chains of others that were needed

    def add_network(self, network: Network) -> None:
        """Raises OSError."""
        if not self._active:
            return
        self._bridges.add(network.bridge)
        with _conversation() as firewall:
            if not self._installed:  # in place of what an earlier daemon left
                firewall.commit([*_old(self._table), *rules.ruleset(self._table)])
                self._installed = True
            firewall.commit(rules.changes(self._table, rules.of_network(network), add=True))
            opened = rules.openings(
                firewall.chains(), firewall.rules(), self._table, self._tag, sorted(self._bridges), self._publish_open
            )
            if opened:
                firewall.commit(opened)
                self.openings += len(opened)

    def remove_network(self, network: Network) -> None:
        self._bridges.discard(network.bridge)
        self._quietly("take a network out of the firewall", rules.of_network(network))
        self._close(network.bridge)

    def add(self, elements: Iterable[rules.Elements]) -> None:
        """All in one transaction. Raises OSError."""
        self._change(elements, add=True)

    def remove(self, elements: Iterable[rules.Elements]) -> None:
        for one in elements:
            self._quietly("take published ports back", one)

    def _change(self, elements: Iterable[rules.Elements], *, add: bool) -> None:
        requests = [request for one in elements for request in rules.changes(self._table, one, add=add)]
        if requests and self._active:
            with _conversation() as firewall:
                firewall.commit(requests)

    def _quietly(self, what: str, elements: rules.Elements) -> None:
        try:
            self._change([elements], add=False)
        except OSError as error:
            log.warning("cannot %s: %s", what, error)

    def close(self) -> None:
        """Takes our rules out of the chains of others, when nothing runs any more that needs them."""
        if self._active:
            self._close("")

    def _close(self, bridge: str) -> None:
        try:
            with nft.Firewall() as firewall:
                requests = rules.closings(firewall.rules(), self._tag, bridge)
                if requests:
                    firewall.commit(requests)
        except OSError as error:
            log.warning("cannot take the openings for bridges back: %s", error)


@contextmanager
def _conversation() -> Iterator[nft.Firewall]:
    """With the kernel, whose errors tell what they are about."""
    try:
        with nft.Firewall() as firewall:
            yield firewall
    except OSError as error:
        raise OSError(error.errno, f"nftables: {error.strerror}", error.filename) from error


def _old(table: str) -> list[nft.Request]:
    """An earlier version had a table of IPv4 alone."""
    return [nft.new_table(table), nft.delete_table(table)]
