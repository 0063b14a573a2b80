"""What an outside judge says of a classifier: figures and Markdown tables from arrays alone.

A labelled frame has one of the model's known labels as its truth; `unknown` marks a signal that has none.
Known labels are all labels but `unknown`, which a model may or may not have; an answer `unknown` to a
labelled frame is wrong.
"""

import numpy as np

UNKNOWN = "unknown"
SNR_EDGES = (-5, 0, 5, 10, 15, 20, 25, 30)
OVER = 0.9


def share(values):
    """The mean of `values`; NaN of nothing."""
    return float(np.mean(values)) if len(values) else float("nan")


def calibration_error(confidence, right, bins=15):
    """Expected calibration error of the top label over `bins` of equal width."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(np.sum(right[place == b]) - np.sum(confidence[place == b])) for b in range(bins)]
    return float(np.sum(gaps) / len(confidence)) if len(confidence) else float("nan")


def auroc(known, unknown):
    """How often a known frame's score is above an unknown one's; a tie counts half."""
    if not len(known) or not len(unknown):
        return float("nan")
    ordered = np.sort(unknown)
    below = np.searchsorted(ordered, known, "left") + np.searchsorted(ordered, known, "right")
    return float(np.mean(below) / (2 * len(unknown)))


def confusion(truth, answer, rows, columns):
    """Frames by truth (rows) and answer (columns)."""
    return np.array([[np.sum((truth == r) & (answer == c)) for c in columns] for r in rows])


def measure(truth, scores, labels, snr, impaired, inside):
    """All figures, as a dictionary.

    `truth` names [n], `scores` [n, labels] that sum to 1, `labels` their names, `snr` dB (NaN for noise),
    `impaired` and `inside` booleans. Figures at 10 dB and more leave noise out, which has no SNR.
    """
    truth, labels = np.asarray(truth), list(labels)
    snr, impaired, inside = np.asarray(snr, float), np.asarray(impaired, bool), np.asarray(inside, bool)
    known = [label for label in labels if label != UNKNOWN]
    answer, confidence = np.array(labels)[scores.argmax(axis=1)], scores.max(axis=1)
    right, labelled, chirps = answer == truth, truth != UNKNOWN, truth == UNKNOWN
    strong = snr >= 10
    knownness = scores[:, [labels.index(label) for label in known]].max(axis=1)
    named = (answer != UNKNOWN) & (answer != "noise")
    everything = np.ones(len(truth), bool)
    groups = {
        "all": everything,
        "clean": ~impaired,
        "impaired": impaired,
        "inside": inside,
        "outside": ~inside,
        "at 10 dB and more": strong,
        "inside at 10 dB and more": inside & strong,
        "inside, clean, at 10 dB and more": inside & strong & ~impaired,
        "inside, impaired, at 10 dB and more": inside & strong & impaired,
    }
    conditions = {"all": everything, "inside": inside, "clean": ~impaired, "impaired": impaired}
    bins = list(zip(SNR_EDGES[:-1], SNR_EDGES[1:]))
    # The last bin has both its edges.
    in_bin = [(snr >= low) & ((snr < high) | (high == SNR_EDGES[-1]) & (snr == high)) for low, high in bins]
    signals = [label for label in known if label != "noise"]
    return {
        "labels": labels,
        "known": known,
        "frames": {name: int(np.sum(labelled & at)) for name, at in groups.items()},
        "right": {name: share(right[labelled & at]) for name, at in groups.items()},
        "right_by_family": {
            label: {name: share(right[(truth == label) & at]) for name, at in conditions.items()}
            for label in known
        },
        "right_by_snr": {
            f"{low} to {high} dB": {"frames": int(np.sum(labelled & at)), "all": share(right[labelled & at])}
            | {label: share(right[(truth == label) & at]) for label in signals}
            for (low, high), at in zip(bins, in_bin)
        },
        "confusion": {
            name: confusion(truth[labelled & at], answer[labelled & at], known, labels)
            for name, at in conditions.items()
        },
        "calibration_error": {
            name: calibration_error(confidence[labelled & at], right[labelled & at])
            for name, at in conditions.items()
        },
        "wrong_over": {
            name: share(~right[labelled & at & (confidence > OVER)]) for name, at in conditions.items()
        },
        "wrong_and_over": {
            name: share((~right & (confidence > OVER))[labelled & at]) for name, at in conditions.items()
        },
        "unlabelled": {
            name: {
                "frames": int(np.sum(chirps & at)),
                "named_over": share((named & (confidence > OVER))[chirps & at]),
                "named": share(named[chirps & at]),
                "unknown": share((answer == UNKNOWN)[chirps & at]),
            }
            for name, at in {
                "all": everything,
                "clean": ~impaired,
                "impaired": impaired,
                "at 10 dB and more": strong,
            }.items()
        },
        "unlabelled_answers": {label: int(np.sum(chirps & (answer == label))) for label in labels},
        "auroc": {
            "all labelled": auroc(knownness[labelled], knownness[chirps]),
            "inside": auroc(knownness[labelled & inside], knownness[chirps]),
            "at 10 dB and more": auroc(knownness[labelled & strong], knownness[chirps & strong]),
            "clean": auroc(knownness[labelled & ~impaired], knownness[chirps & ~impaired]),
            "impaired": auroc(knownness[labelled & impaired], knownness[chirps & impaired]),
        },
    }


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def percent(value, digits=0):
    """A share as text; a dash where there is none."""
    return "–" if np.isnan(value) else f"{value:.{digits}%}"


def confusion_table(counts, rows, columns):
    """Sent (rows) and said (columns), as shares of each row."""
    shares = [
        [f"**{name}**", *(percent(count / max(line.sum(), 1)) for count in line)]
        for name, line in zip(rows, counts)
    ]
    return table(["sent", *columns], shares)


def summary_table(measures):
    """Share right by group of frames."""
    rows = [[name, measures["frames"][name], percent(value, 1)] for name, value in measures["right"].items()]
    return table(["labelled frames", "frames", "right"], rows)


def family_table(measures):
    """Share right by family and condition."""
    rows = [[name, *map(percent, shares.values())] for name, shares in measures["right_by_family"].items()]
    return table(["family", "all", "inside", "clean", "impaired"], rows)


def snr_table(measures):
    """Share right by SNR and family."""
    lines = measures["right_by_snr"]
    rows = [
        [name, line["frames"], *(percent(v) for k, v in line.items() if k != "frames")]
        for name, line in lines.items()
    ]
    return table(["SNR", "frames", *(k for k in next(iter(lines.values())) if k != "frames")], rows)


def trust_table(measures):
    """What a score is worth: calibration error, and wrong answers at a high score."""
    rows = [
        [name, f"{error:.3f}", percent(measures["wrong_over"][name], 1), percent(both, 1)]
        for (name, error), both in zip(
            measures["calibration_error"].items(), measures["wrong_and_over"].values()
        )
    ]
    return table(
        ["labelled frames", "calibration error", f"wrong, of answers over {OVER}", f"wrong and over {OVER}"],
        rows,
    )


def unknown_table(measures):
    """What signals without a label are called."""
    rows = [
        [name, line["frames"], *(percent(line[k], 1) for k in ("named_over", "named", "unknown"))]
        for name, line in measures["unlabelled"].items()
    ]
    return table(["without a label", "frames", f"named over {OVER}", "named", "unknown"], rows)


def report(measures):
    """All tables as Markdown."""
    answers = [f"{label} {count}" for label, count in measures["unlabelled_answers"].items() if count]
    areas = [[name, f"{value:.3f}"] for name, value in measures["auroc"].items()]
    parts = [summary_table(measures), family_table(measures), snr_table(measures)]
    for name, counts in measures["confusion"].items():
        parts.append(f"Sent (rows) and said (columns), {name}:")
        parts.append(confusion_table(counts, measures["known"], measures["labels"]))
    parts += [trust_table(measures), unknown_table(measures)]
    parts.append(f"Signals without a label are called: {', '.join(answers)}.")
    parts.append(table(["known against unknown", "AUROC of the highest known score"], areas))
    return "\n\n".join(parts) + "\n"
