"""Rings in a graph given as a set of edges (source, target)."""

from collections import defaultdict


def components(edges):
    """Tarjan's strongly connected components, without recursion; in each, every node reaches every other."""
    after = defaultdict(list)
    nodes = dict.fromkeys(node for edge in sorted(edges) for node in edge)
    for source, target in sorted(edges):
        after[source].append(target)
    order, low, stack, on_stack, found = {}, {}, [], set(), []

    def enter(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        on_stack.add(node)
        work.append((node, iter(after[node])))

    for start in nodes:
        work = []
        if start not in order:
            enter(start)
        while work:
            node, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    found.append(set(stack[stack.index(node):]))
                    del stack[stack.index(node):]
                    on_stack -= found[-1]
            elif following not in order:
                enter(following)
            elif following in on_stack:
                low[node] = min(low[node], order[following])
    return found


def rings(edges):
    """The components of more than one node."""
    return [component for component in components(edges) if len(component) > 1]


def inside(edges):
    """The edges that are part of a ring."""
    place = {node: number for number, ring in enumerate(rings(edges)) for node in ring}
    return {(a, b) for a, b in edges if a in place and place[a] == place.get(b)}


def few_that_close(edges):
    """Few edges without which there is no ring: one by one, that without which the fewest are in a ring."""
    edges, removed = set(edges), set()
    while ringed := inside(edges):
        best = min(sorted(ringed), key=lambda edge: len(inside(ringed - {edge})))
        edges.discard(best)
        removed.add(best)
    return removed
