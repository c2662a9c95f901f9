//! The table of medians, and how far each budget is met.

use crate::{
    figures::{Figures, human},
    rounds::DROVER,
};

/// How much better than a peer Drover is to be.
struct Budget {
    figure: &'static str,
    peer: &'static str,
    bound: Bound,
}

enum Bound {
    /// At least so many times as much as the peer.
    AtLeast(f64),
    /// At most so much of what the peer has.
    AtMost(f64),
    /// At most so much, whatever the peer has.
    Absolute(f64),
}

use Bound::{Absolute, AtLeast, AtMost};

const fn budget(figure: &'static str, peer: &'static str, bound: Bound) -> Budget {
    Budget { figure, peer, bound }
}

const BUDGETS: [Budget; 12] = [
    budget("drain, 1/s", "BullMQ", AtLeast(10.0)),
    budget("bulk, 1/s", "BullMQ", AtLeast(10.0)),
    budget("POST × 50, 1/s", "NestJS + Bull", AtLeast(15.0)),
    budget("POST × 50, 1/s", "axum echo", AtLeast(0.5)),
    budget("cost, Redis CPU µs", "BullMQ", AtMost(0.125)),
    // Beside the payload, which has 160 bytes.
    budget("cost, bytes waiting", "", Absolute(270.0)),
    budget("cost, bytes completed", "BullMQ", AtMost(0.36)),
    budget("latency idle, p50 ms", "", Absolute(0.6)),
    budget("latency idle, p99 ms", "", Absolute(2.0)),
    budget("lateness due, p50 ms", "", Absolute(1.5)),
    budget("lateness due, p99 ms", "", Absolute(5.0)),
    budget("backlog, drain 1/s", "empty", AtLeast(0.75)),
];

/// Prints all medians, each as a ratio to Drover's, and then the budgets.
pub(crate) fn print(figures: &Figures) {
    println!("\n| figure | system | median | Drover / this |\n|---|---|---:|---:|");
    for figure in figures.names() {
        let drovers = figures.get(figure, DROVER);
        for (system, value) in figures.of(figure) {
            let ratio = drovers.filter(|_| system != DROVER).map_or_else(String::new, |own| human(own / value));
            println!("| {figure} | {system} | {} | {ratio} |", human(value));
        }
    }
    println!("\n| budget | | measured | met |\n|---|---|---:|---|");
    for Budget { figure, peer, bound } in &BUDGETS {
        let own = figures.get(figure, DROVER).or_else(|| figures.get(figure, "backlog"));
        let Some(own) = own else { continue };
        let (rule, measured, is_met) = match bound {
            Absolute(most) => (format!("≤ {}", human(*most)), own, own <= *most),
            AtLeast(times) | AtMost(times) => {
                let Some(peers) = figures.get(figure, peer) else { continue };
                let ratio = own / peers;
                match bound {
                    AtMost(_) => (format!("≤ {times} × {peer}"), ratio, ratio <= *times),
                    _ => (format!("≥ {times} × {peer}"), ratio, ratio >= *times),
                }
            }
        };
        println!("| {figure} | {rule} | {} | {} |", human(measured), if is_met { "yes" } else { "no" });
    }
}
