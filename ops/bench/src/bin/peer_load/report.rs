//! The figures as Markdown.

use std::fmt::Write;

use crate::measurement::{Load, Measured, Run, Spread, Turn};
use crate::side::{Part, Side};

/// Cores that are worth a word in one who has nothing to do.
pub const BUSY: f64 = 0.01;

/// A column of a table.
struct Column {
    title: String,
    load: Load,
    of: fn(&Measured) -> f64,
    digits: usize,
    /// Whether a loop has it too, which nobody asks: what its threads do stands where the most users ask.
    is_of_loops: bool,
}

impl Column {
    fn new(title: impl Into<String>, load: Load, of: fn(&Measured) -> f64, digits: usize) -> Self {
        Self { title: title.into(), load, of, digits, is_of_loops: false }
    }

    fn of_loops(self) -> Self {
        Self { is_of_loops: true, ..self }
    }

    /// Of which turns of a side it is.
    fn load(&self, side: Side) -> Option<Load> {
        if !side.is_loop() { Some(self.load) } else { self.is_of_loops.then_some(Load::Loop) }
    }
}

/// Everything: what was measured, the figures of each side, and ours beside each other's.
pub fn markdown(run: &Run, turns: &[Turn]) -> String {
    let rounds = turns.iter().map(|turn| turn.round).max().unwrap_or_default();
    let sides = sides(turns);
    let list = |entries: &std::collections::BTreeMap<String, String>| {
        entries.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "`ops/bench/peers`, {}: model `{}`, {} KiB a frame, {}, {} s a turn. {}.\n\n{}.\n",
        run.date,
        run.model,
        run.frame_bytes / 1024,
        if rounds == 1 { "1 round".to_owned() } else { format!("{rounds} rounds") },
        run.seconds,
        list(&run.machine),
        list(&run.versions),
    );
    let _ = writeln!(
        text,
        "Medians over the rounds, with their range. Closed loops: users that wait for their answers. Latency \
         in ms; at half load, which is half of a side's own rate, from when a request was due. CPU is ms an \
         answer, RSS MiB of the server's processes, summed. ONNX Runtime alone is given features that were \
         computed before.\n"
    );
    text += &figures(run, turns, &sides);
    for (side, cores) in run.idle_cores.iter().filter(|(_, cores)| **cores >= BUSY) {
        let _ = writeln!(text, "\n`{side}` takes {cores:.2} of a core while nobody asks it.");
    }
    text += "\nOurs to each of the others of the same round, medians with their range: above 1 is more \
             answers, below 1 is less latency or CPU.\n\n";
    text += &ratios(run, turns, &sides);
    text
}

/// Those that were measured, in their order.
pub fn sides(turns: &[Turn]) -> Vec<Side> {
    let measured = |side: &Side| turns.iter().any(|turn| turn.side == *side);
    Side::all().into_iter().filter(measured).collect()
}

/// Values of the turns of a side at a load.
pub fn values<'a>(
    turns: &'a [Turn],
    side: Side,
    load: Load,
    of: impl Fn(&Measured) -> f64 + 'a,
) -> impl Iterator<Item = f64> + 'a {
    turns
        .iter()
        .filter(move |turn| turn.side == side && turn.load == load)
        .map(move |turn| of(&turn.measured))
}

fn rates(run: &Run) -> Vec<Column> {
    let most = run.concurrency.iter().max();
    let column = |users: &usize| {
        let column = Column::new(format!("answers/s, {users}"), Load::Users(*users), |m| m.rate, 0);
        if Some(users) == most { column.of_loops() } else { column }
    };
    run.concurrency.iter().map(column).collect()
}

fn figures(run: &Run, turns: &[Turn], sides: &[Side]) -> String {
    let mut columns = rates(run);
    let ends = [run.concurrency.iter().min(), run.concurrency.iter().max()].map(|users| users.copied());
    let [least, most] = ends.map(Option::unwrap_or_default);
    let [few, many] = [least, most].map(Load::Users);
    columns.push(Column::new(format!("p50, {least}"), few, |m| m.p50_ms, 2));
    columns.push(Column::new(format!("p99, {least}"), few, |m| m.p99_ms, 2));
    if most != least {
        columns.push(Column::new(format!("p99, {most}"), many, |m| m.p99_ms, 1));
    }
    columns.push(Column::new("p99, half load", Load::Half, |m| m.p99_ms, 2));
    columns
        .push(Column::new(format!("CPU of the server, {most}"), many, Measured::server_cpu_ms, 3).of_loops());
    columns.push(Column::new(format!("of NATS or Redis, {most}"), many, Measured::broker_cpu_ms, 3));
    columns.push(Column::new("RSS", many, |m| m.server_rss_mib(), 0).of_loops());

    let mut text = header("side", &columns);
    for &side in sides {
        let cell = |column: &Column| {
            let load = column.load(side);
            let values = load.into_iter().flat_map(|load| values(turns, side, load, column.of));
            spread(Spread::of(values), column.digits)
        };
        let cells: Vec<_> = columns.iter().map(cell).collect();
        let _ = writeln!(text, "| {} | {} |", side.title(run.workers), cells.join(" | "));
    }
    text
}

fn ratios(run: &Run, turns: &[Turn], sides: &[Side]) -> String {
    let mut columns = rates(run);
    let most = run.concurrency.iter().max().copied().unwrap_or_default();
    columns.push(Column::new(format!("p99, {most}"), Load::Users(most), |m| m.p99_ms, 2));
    columns.push(Column::new("p99, half load", Load::Half, |m| m.p99_ms, 2));
    columns
        .push(Column::new(format!("CPU of all, {most}"), Load::Users(most), Measured::cpu_ms, 2).of_loops());

    let mut text = header("sferic over … to …", &columns);
    for (ours, over) in [(Side::Sferic, "NATS"), (Side::SfericHttp, "HTTP")] {
        for &other in sides.iter().filter(|_| sides.contains(&ours)) {
            // Limits are beside what comes closest to them.
            if other.part() == Part::Ours || other.part() == Part::Limit && ours != Side::Sferic {
                continue;
            }
            let cell = |column: &Column| {
                let Some(load) = column.load(other) else { return spread(None, 2) };
                spread(Spread::of(pairs(turns, (ours, column.load), (other, load), column.of)), 2)
            };
            let cells: Vec<_> = columns.iter().map(cell).collect();
            let _ = writeln!(text, "| {over} to {} | {} |", other.title(run.workers), cells.join(" | "));
        }
    }
    text
}

/// The ratio of the first to the second in each round that has both.
pub fn pairs(
    turns: &[Turn],
    ours: (Side, Load),
    theirs: (Side, Load),
    of: impl Fn(&Measured) -> f64,
) -> Vec<f64> {
    let rounds = turns.iter().map(|turn| turn.round).max().unwrap_or_default();
    let value = |round: usize, (side, load): (Side, Load)| {
        let turn = turns.iter().find(|turn| (turn.round, turn.side, turn.load) == (round, side, load));
        turn.map(|turn| of(&turn.measured))
    };
    (1..=rounds).filter_map(|round| Some(value(round, ours)? / value(round, theirs)?)).collect()
}

fn header(first: &str, columns: &[Column]) -> String {
    let titles: Vec<_> = columns.iter().map(|column| column.title.as_str()).collect();
    format!("| {first} | {} |\n| --- |{}\n", titles.join(" | "), " ---: |".repeat(titles.len()))
}

fn spread(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        None => "–".to_owned(),
        Some(Spread { median, low, high }) if low == high => format!("{median:.digits$}"),
        Some(Spread { median, low, high }) => format!("{median:.digits$} ({low:.digits$}–{high:.digits$})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{run, turn};

    #[test]
    fn ratios_are_of_the_same_round() {
        // The machine was twice as slow in the second round.
        let turns = [
            turn(1, Side::Sferic, Load::Users(32), 1000.0),
            turn(1, Side::Mosec, Load::Users(32), 500.0),
            turn(2, Side::Sferic, Load::Users(32), 500.0),
            turn(2, Side::Mosec, Load::Users(32), 250.0),
            turn(1, Side::Run, Load::Loop, 2000.0),
            turn(2, Side::Run, Load::Loop, 1250.0),
            turn(2, Side::Sferic, Load::Half, 250.0),
        ];
        let at = |side, load| pairs(&turns, (Side::Sferic, Load::Users(32)), (side, load), |m| m.rate);
        assert_eq!(at(Side::Mosec, Load::Users(32)), [2.0, 2.0]);
        assert_eq!(at(Side::Run, Load::Loop), [0.5, 0.4]);
        let text = markdown(&run(), &turns);
        assert!(text.contains("| NATS to mosec, 2 workers | – | 2.00 |"), "{text}");
        assert!(text.contains("| **sferic**, NATS | – | 750 (500–1000) |"), "{text}");
        assert!(text.contains("| ONNX Runtime alone, 2 threads | – | 1625 (1250–2000) |"), "{text}");
        assert!(!text.contains("NaN"), "{text}");
    }
}
