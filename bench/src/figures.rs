//! Collects the samples of every figure, and calculates and formats their medians.

use std::collections::BTreeMap;

/// The measured values (samples), by figure and by system.
#[derive(Default)]
pub(crate) struct Figures {
    samples: BTreeMap<(String, String), Vec<f64>>,
    order: Vec<String>,
}

impl Figures {
    /// Records a measured value (a sample) of a figure, and prints it.
    pub(crate) fn record(&mut self, figure: &str, system: &str, value: f64) {
        println!("  {figure:<28} {system:<22} {}", format_number(value));
        if !self.order.iter().any(|known| known == figure) {
            self.order.push(figure.to_owned());
        }
        self.samples.entry((figure.to_owned(), system.to_owned())).or_default().push(value);
    }

    /// The figures' names, in the order of their first measurement.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// The median of a figure for each system.
    pub(crate) fn medians(&self, figure: &str) -> Vec<(&str, f64)> {
        let samples_of_figure = self.samples.iter().filter(|((name, _), _)| name == figure);
        samples_of_figure.map(|((_, system), samples)| (system.as_str(), median(samples))).collect()
    }

    /// The median of a figure for one system.
    pub(crate) fn median(&self, figure: &str, system: &str) -> Option<f64> {
        self.samples.get(&(figure.to_owned(), system.to_owned())).map(|samples| median(samples))
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted_samples = samples.to_vec();
    sorted_samples.sort_by(f64::total_cmp);
    let middle_index = sorted_samples.len() / 2;
    match sorted_samples.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted_samples[middle_index],
        _ => f64::midpoint(sorted_samples[middle_index - 1], sorted_samples[middle_index]),
    }
}

/// Formats a number with three significant digits, and from 1,000 with all digits of its integer part.
pub(crate) fn format_number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let mut grouped_digits = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    grouped_digits.push(',');
                }
                grouped_digits.push(digit);
            }
            grouped_digits
        }
        medium if medium >= 100.0 => format!("{value:.0}"),
        small if small >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_sample_and_numbers_are_formatted_with_three_digits() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert_eq!(format_number(1_234_567.0), "1,234,567");
        assert_eq!([format_number(123.4), format_number(12.34), format_number(1.234)], ["123", "12.3", "1.23"]);
    }
}
