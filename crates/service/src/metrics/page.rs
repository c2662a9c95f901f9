use std::fmt::{self, Display, Write};

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use queue_core::Histogram;

/// What `/metrics` answers, under construction: Prometheus's text format 0.0.4.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises, until what counts begins anew.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often something took how long.
    Histogram,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The figures of one name.
pub struct Family<'p> {
    text: &'p mut String,
    name: &'static str,
}

/// The name and the value of each label.
type Labels<'l> = &'l [(&'static str, &'l str)];

impl Page {
    /// Begins the figures of one name. `help` is one line.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        append(&mut self.text, format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
        Family { text: &mut self.text, name }
    }

    /// A family of one gauge without labels.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: impl Display) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }
}

impl Family<'_> {
    /// One figure.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// One histogram.
    pub fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut count = 0;
        for (bound, so_far) in histogram.buckets() {
            count = so_far;
            self.line("_bucket", labels, Some(&bound.as_secs_f64()), so_far);
        }
        // Read once: what is counted meanwhile must not make the parts contradict each other.
        count += histogram.beyond();
        self.line("_bucket", labels, Some(&"+Inf"), count);
        self.line("_sum", labels, None, histogram.sum().as_secs_f64());
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&dyn Display>, value: impl Display) {
        append(self.text, format_args!("{}{suffix}", self.name));
        let mut before = '{';
        for (name, value) in labels {
            append(self.text, format_args!("{before}{name}=\""));
            escape(self.text, value);
            self.text.push('"');
            before = ',';
        }
        if let Some(bound) = bound {
            append(self.text, format_args!("{before}le=\"{bound}\""));
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        append(self.text, format_args!(" {value}\n"));
    }
}

fn append(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(what);
}

fn escape(text: &mut String, value: &str) {
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

impl Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = self.text.into_response();
        let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        const BOUNDS: &[Duration] = &[Duration::from_micros(100), Duration::from_secs(1)];
        let mut page = Page::default();
        page.gauge("a_seconds", "How long.", 0.25);
        let mut family = page.family("b_total", Kind::Counter, "How many.");
        family.sample(&[("queue", "a\"b\\c\n"), ("state", "held")], 7_u64);
        let histogram = Histogram::new(BOUNDS);
        for micros in [50, 200, 2_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut family = page.family("c_seconds", Kind::Histogram, "Times.");
        family.histogram(&[("q", "x")], &histogram);
        family.histogram(&[], &histogram);
        let expected = r#"# HELP a_seconds How long.
# TYPE a_seconds gauge
a_seconds 0.25
# HELP b_total How many.
# TYPE b_total counter
b_total{queue="a\"b\\c\n",state="held"} 7
# HELP c_seconds Times.
# TYPE c_seconds histogram
c_seconds_bucket{q="x",le="0.0001"} 1
c_seconds_bucket{q="x",le="1"} 2
c_seconds_bucket{q="x",le="+Inf"} 3
c_seconds_sum{q="x"} 2.00025
c_seconds_count{q="x"} 3
c_seconds_bucket{le="0.0001"} 1
c_seconds_bucket{le="1"} 2
c_seconds_bucket{le="+Inf"} 3
c_seconds_sum 2.00025
c_seconds_count 3
"#;
        assert_eq!(page.text, expected);
    }
}
