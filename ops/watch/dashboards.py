"""Reads a dashboard's file: its queries, and its faults."""

import re

# Panels that show no number.
WITHOUT_UNIT = {"row", "text", "traces"}
GRID = 24


def queries(dashboard, rate_interval, time_range):
    """Every PromQL query, of panels, annotations and variables, with where it is.

    Variables are replaced by what their "All" stands for.
    """
    values = {"__rate_interval": rate_interval, "__range": time_range, "instance": ".*", "model": ".*"}

    def filled(expr):
        # What a panel shows instead of nothing must not hide that there is nothing.
        expr = re.sub(r" or (on \(\) )?vector\(0\)$", "", expr)
        return re.sub(r"\$\{?(\w+)\}?", lambda name: values[name[1]], expr)

    found = [
        (panel["title"], filled(target["expr"]))
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        if "expr" in target
    ]
    found += [
        (note["name"], filled(note["expr"]))
        for note in dashboard.get("annotations", {}).get("list", [])
        if "expr" in note
    ]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            found.append((f"variable {variable['name']}", f"count by ({label}) ({filled(selector)})"))
    return found


def span_attributes(dashboard):
    """The attributes of spans and resources that its searches name."""
    searches = [
        target["query"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        if "query" in target
    ]
    return sorted(set(re.findall(r"\b(?:span|resource)\.([a-z_.]+)", " ".join(searches))))


def faults(dashboard):
    """Returns what Grafana would show wrong or not at all."""
    variables = dashboard["templating"]["list"]
    known = {variable["name"] for variable in variables} | {"__rate_interval", "__range"}
    sources = {f"${{{v['name']}}}": v["query"] for v in variables if v["type"] == "datasource"}
    taken, ids = {}, set()
    for panel in dashboard["panels"]:
        title, kind, place = panel.get("title"), panel["type"], panel["gridPos"]
        if not title:
            yield f"panel {panel['id']} has no title"
        if panel["id"] in ids:
            yield f"{title}: its id {panel['id']} is there twice"
        ids.add(panel["id"])
        columns, rows = (range(place[at], place[at] + place[size]) for at, size in ("xw", "yh"))
        for cell in ((x, y) for x in columns for y in rows):
            if cell[0] >= GRID or cell in taken:
                yield f"{title}: lies over {taken.get(cell, 'the edge')}"
                break
            taken[cell] = title
        if kind == "row":
            continue
        if not panel.get("description"):
            yield f"{title}: no description"
        is_measured = kind not in WITHOUT_UNIT and panel["datasource"]["type"] == "prometheus"
        if is_measured and not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{title}: no unit"
        if kind != "text" and not panel.get("targets"):
            yield f"{title}: no query"
        if sources.get(panel["datasource"]["uid"]) != panel["datasource"]["type"]:
            yield f"{title}: its data source is not one of the dashboard's variables"
        refs = [target["refId"] for target in panel.get("targets", [])]
        if len(refs) != len(set(refs)):
            yield f"{title}: two queries of one refId"
        for target in panel.get("targets", []):
            for name in re.findall(r"\$\{?(\w+)", target.get("expr", "") + target.get("query", "")):
                if name not in known:
                    yield f"{title}: no variable {name}"
