//! Prints the table of medians and the table of performance budgets.

use crate::{
    figures::{Figures, format_number},
    rounds::DROVER_NAME,
};

/// A bound on Drover's median of a figure: an absolute value, or a multiple of the median of another measured system (the
/// peer).
struct Budget {
    figure: &'static str,
    peer: &'static str,
    bound: Bound,
}

enum Bound {
    /// Drover's median must be at least this many times the peer's median.
    MinRatio(f64),
    /// Drover's median must be at most this many times the peer's median.
    MaxRatio(f64),
    /// Drover's median of the figure must be at most this value.
    Max(f64),
    /// Drover's median of the figure must be at least this value.
    Min(f64),
}

use Bound::{Max, MaxRatio, Min, MinRatio};

const fn budget(figure: &'static str, peer: &'static str, bound: Bound) -> Budget {
    Budget { figure, peer, bound }
}

const BUDGETS: [Budget; 18] = [
    budget("drain, 1/s", "BullMQ", MinRatio(8.0)),
    budget("drain, 1/s", "Drover, concurrency 1000", MinRatio(0.95)),
    budget("everysec, drain, 1/s", "BullMQ", MinRatio(8.0)),
    budget("everysec, handlers of 10 ms, 1/s", "", Min(9_700.0)),
    budget("everysec, handlers of 10 ms, share of time", "", Min(0.97)),
    budget("everysec, handlers of 10 ms, share of rate after a kill", "", Min(0.97)),
    budget("bulk, 1/s", "BullMQ", MinRatio(10.0)),
    budget("POST × 50, 1/s", "NestJS + Bull", MinRatio(12.0)),
    budget("POST × 50, 1/s", "axum echo", MinRatio(0.5)),
    budget("POST × 1, 1/s", "NestJS + Bull", MinRatio(3.0)),
    budget("everysec, POST × 50 at half of the peak, p99 ms", "", Max(5.0)),
    budget("cost, Redis CPU µs", "BullMQ", MaxRatio(0.125)),
    // The memory of a waiting message includes its payload, which has 160 bytes.
    budget("cost, bytes waiting", "", Max(286.0)),
    budget("latency idle, p50 ms", "", Max(0.8)),
    budget("latency idle, p99 ms", "", Max(2.0)),
    budget("lateness due, p50 ms", "", Max(1.2)),
    budget("lateness due, p99 ms", "", Max(3.0)),
    budget("backlog, drain 1/s", "empty", MinRatio(0.8)),
];

/// Prints all medians, each with the ratio of Drover's median to it, and then the budgets.
pub(crate) fn print_tables(figures: &Figures) {
    println!("\n| figure | system | median | Drover / this |\n|---|---|---:|---:|");
    for figure in figures.names() {
        let drover_median = figures.median(figure, DROVER_NAME);
        for (system, value) in figures.medians(figure) {
            let ratio = drover_median
                .filter(|_| system != DROVER_NAME)
                .map_or_else(String::new, |drover_median| format_number(drover_median / value));
            println!("| {figure} | {system} | {} | {ratio} |", format_number(value));
        }
    }
    println!("\n| budget | | measured | met |\n|---|---|---:|---|");
    for Budget { figure, peer, bound } in &BUDGETS {
        let drover_median = figures.median(figure, DROVER_NAME).or_else(|| figures.median(figure, "backlog"));
        let Some(drover_median) = drover_median else { continue };
        let (rule, measured, is_met) = match bound {
            Max(max) => (format!("≤ {}", format_number(*max)), drover_median, drover_median <= *max),
            Min(min) => (format!("≥ {}", format_number(*min)), drover_median, drover_median >= *min),
            MinRatio(times) | MaxRatio(times) => {
                let Some(peer_median) = figures.median(figure, peer) else { continue };
                let ratio = drover_median / peer_median;
                match bound {
                    MaxRatio(_) => (format!("≤ {times} × {peer}"), ratio, ratio <= *times),
                    _ => (format!("≥ {times} × {peer}"), ratio, ratio >= *times),
                }
            }
        };
        println!("| {figure} | {rule} | {} | {} |", format_number(measured), if is_met { "yes" } else { "no" });
    }
}
