use std::collections::BTreeMap;

/// What was measured: samples by figure and by system.
#[derive(Default)]
pub(crate) struct Figures {
    samples: BTreeMap<(String, String), Vec<f64>>,
    order: Vec<String>,
}

impl Figures {
    /// Takes in a sample, and tells it.
    pub(crate) fn note(&mut self, figure: &str, system: &str, value: f64) {
        println!("  {figure:<28} {system:<22} {}", human(value));
        if !self.order.iter().any(|known| known == figure) {
            self.order.push(figure.to_owned());
        }
        self.samples.entry((figure.to_owned(), system.to_owned())).or_default().push(value);
    }

    /// In the order in which they were measured first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// The median of a figure for each system.
    pub(crate) fn of(&self, figure: &str) -> Vec<(&str, f64)> {
        let of_figure = self.samples.iter().filter(|((name, _), _)| name == figure);
        of_figure.map(|((_, system), samples)| (system.as_str(), median(samples))).collect()
    }

    pub(crate) fn get(&self, figure: &str, system: &str) -> Option<f64> {
        self.samples.get(&(figure.to_owned(), system.to_owned())).map(|samples| median(samples))
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// With as many digits as mean something.
pub(crate) fn human(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (digits.len() - place).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        some if some >= 100.0 => format!("{value:.0}"),
        some if some >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_a_number_is_read_at_once() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert_eq!(human(1_234_567.0), "1,234,567");
        assert_eq!([human(123.4), human(12.34), human(1.234)], ["123", "12.3", "1.23"]);
    }
}
