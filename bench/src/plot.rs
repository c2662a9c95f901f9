//! Draws the medians of four figures as bar charts in SVG.

use std::{fmt::Write, fs, path::Path};

use crate::{
    Result,
    figures::{Figures, format_number},
    rounds::DROVER_NAME,
};

const PLOTTED_FIGURES: [(&str, &str, &str); 4] = [
    ("drain, 1/s", "drain.svg", "Messages drained a second"),
    ("bulk, 1/s", "bulk.svg", "Messages enqueued in bulk a second"),
    ("POST × 50, 1/s", "post.svg", "POSTs of one message a second, 50 connections"),
    ("cost, Redis CPU µs", "cost.svg", "µs of Redis for a message, from enqueue to result"),
];

const ROW_HEIGHT: usize = 28;
const LABEL_WIDTH: f64 = 170.0;
const MAX_BAR_WIDTH: f64 = 420.0;

/// Writes a plot for each figure in `PLOTTED_FIGURES` that was measured.
pub(crate) fn write_plots(figures: &Figures, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (figure, file, title) in PLOTTED_FIGURES {
        let bar_medians = figures.medians(figure);
        if !bar_medians.is_empty() {
            fs::write(folder.join(file), bar_chart_svg(title, &bar_medians)?)?;
        }
    }
    println!("\nThe plots are in {}", folder.display());
    Ok(())
}

fn bar_chart_svg(title: &str, bars: &[(&str, f64)]) -> Result<String> {
    let largest_value = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let plot_height = 50 + ROW_HEIGHT * bars.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"700\" height=\"{plot_height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"24\" \
         font-size=\"15\" font-weight=\"bold\">{title}</text>\n"
    );
    for (row, (system, value)) in bars.iter().enumerate() {
        let (top, width) = (40 + ROW_HEIGHT * row, (value / largest_value * MAX_BAR_WIDTH).max(1.0));
        let (middle, end) = (top + 15, LABEL_WIDTH + width + 6.0);
        let colour = if system.starts_with(DROVER_NAME) { "#1f77b4" } else { "#9aa5b1" };
        writeln!(svg, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{system}</text>", LABEL_WIDTH - 8.0)?;
        writeln!(svg, "<rect x=\"{LABEL_WIDTH}\" y=\"{top}\" width=\"{width:.0}\" height=\"20\" fill=\"{colour}\"/>")?;
        writeln!(svg, "<text x=\"{end:.0}\" y=\"{middle}\">{}</text>", format_number(*value))?;
    }
    Ok(svg + "</svg>\n")
}
