//! The chart for the README: how many times as long as the limit everybody takes, on a logarithmic scale.

use super::results::Results;
use super::rows::Stat;
use super::table::times;

/// One group of bars.
struct Panel {
    row: &'static str,
    title: &'static str,
    limit: &'static str,
    /// Who is shown: only those, or all but the limit if it is empty.
    who: &'static [&'static str],
}

const PANELS: &[Panel] = &[
    Panel { row: "line-idle", title: "a line there and back", limit: "raw pipe", who: &[] },
    Panel { row: "line-apart", title: "the same, each side on a core of its own", limit: "raw pipe", who: &[] },
    Panel { row: "line-busy", title: "the same on a busy machine", limit: "raw pipe", who: &[] },
    Panel {
        row: "flood-64",
        title: "64 MiB of output before the match",
        limit: "raw pipe",
        who: &["foster", "tokio", "rexpect", "expectrl"],
    },
    Panel {
        row: "spawn",
        title: "from spawn to exit status",
        limit: "std",
        who: &["foster", "process-wrap, session", "assert_cmd", "duct", "tokio", "rexpect", "expectrl"],
    },
    Panel {
        row: "heap",
        title: "the same in a test process of 2 GiB",
        limit: "std, no heap",
        who: &["foster, 2 GiB", "std, 2 GiB", "std with pre_exec, 2 GiB"],
    },
    Panel {
        row: "stop-slow-100",
        title: "the end of 100 helpers that need 10 ms",
        limit: "kill loop, wait loop",
        who: &["foster", "one after the other", "process-wrap"],
    },
];

const WIDTH: f64 = 760.0;
/// Where the bars begin, and how much room the longest has.
const LEFT: f64 = 190.0;
const ROOM: f64 = 470.0;
const BAR: f64 = 18.0;
const HEAD: f64 = 30.0;
/// The scale goes from a tenth of the limit to ten thousand times the limit.
const DECADES: (f64, f64) = (-1.0, 4.0);

fn x(ratio: f64) -> f64 {
    let at = (ratio.log10().clamp(DECADES.0, DECADES.1) - DECADES.0) / (DECADES.1 - DECADES.0);
    LEFT + at * ROOM
}

/// The whole picture.
pub(super) fn draw(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 56.0;
    let top = y;
    for panel in PANELS {
        let bars = bars(panel, results);
        if bars.is_empty() {
            continue;
        }
        y += HEAD;
        body.push_str(&format!("<text class=\"head\" x=\"16\" y=\"{:.0}\">{}</text>\n", y - 8.0, escape(panel.title)));
        for (name, ratio) in bars {
            let class = if name.starts_with("foster") { "own" } else { "peer" };
            let middle = y + BAR * 0.7;
            body.push_str(&format!(
                "<text class=\"name\" x=\"{:.0}\" y=\"{middle:.1}\">{}</text>\n",
                LEFT - 8.0,
                escape(name)
            ));
            let end = x(ratio).max(LEFT + 1.0);
            body.push_str(&format!(
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\n",
                y + 2.0,
                end - LEFT,
                BAR - 4.0
            ));
            body.push_str(&format!(
                "<text class=\"{class}\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text>\n",
                end + 6.0,
                times(ratio)
            ));
            y += BAR;
        }
    }
    let height = y + 20.0;
    let mut grid = String::new();
    for decade in -1i32..=4 {
        let at = x(10f64.powi(decade));
        let class = if decade == 0 { "limit" } else { "grid" };
        grid.push_str(&format!(
            "<line class=\"{class}\" x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{:.0}\"/>\n",
            height - 12.0
        ));
        let label = match decade {
            -1 => "0.1 ×".to_owned(),
            0 => "the limit".to_owned(),
            n => format!("{} ×", 10u32.pow(n.unsigned_abs())),
        };
        grid.push_str(&format!("<text class=\"tick\" x=\"{at:.1}\" y=\"{:.0}\">{label}</text>\n", top - 6.0));
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<style>{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height:.0}\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text class=\"head\" x=\"16\" y=\"24\">Time relative to the limit (raw pipes, std::process); shorter is better, the scale is logarithmic</text>\n\
         {grid}{body}</svg>\n"
    )
}

const STYLE: &str = "text{fill:#333;paint-order:stroke;stroke:#fff;stroke-width:3px}.head{font-weight:600}.name{text-anchor:end}.tick{text-anchor:middle;fill:#777;font-size:11px}\
.grid{stroke:#e4e4e4}.limit{stroke:#555;stroke-dasharray:4 3}rect.own{fill:#1a7f5a}rect.peer{fill:#b9c2cc}text.own{fill:#1a7f5a;font-weight:600}";

/// Everybody's median as a multiple of the limit's.
fn bars<'a>(panel: &Panel, results: &'a Results) -> Vec<(&'a str, f64)> {
    let Some(limit) = results.find(panel.row, panel.limit) else { return Vec::new() };
    let limit = limit.stat(Stat::Median);
    let shown = |name: &str| name != panel.limit && (panel.who.is_empty() || panel.who.contains(&name));
    let mut bars: Vec<_> = results
        .of(panel.row)
        .filter(|c| shown(&c.name))
        .map(|c| (c.name.as_str(), c.stat(Stat::Median) / limit))
        .filter(|(_, ratio)| ratio.is_finite())
        .collect();
    bars.sort_by(|a, b| a.1.total_cmp(&b.1));
    bars
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
