//! `docs/routing.svg`.

use std::path::Path;

use plotters::prelude::*;

use super::figures::Figures;
use super::sim::{Chooser, Scenario};

/// What the plot is called.
pub const TITLE: &str = "Waiting for a free host: the router and random queue groups";

const OURS: RGBColor = RGBColor(0x1b, 0x6e, 0xb3);
const RANDOM: RGBColor = RGBColor(0xc4, 0x4e, 0x2b);
const CHOOSERS: [(Chooser, &str, RGBColor); 2] =
    [(Chooser::Router, "router", OURS), (Chooser::Random, "random queue groups", RANDOM)];
const LOADS: [f64; 8] = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
const WORKS_S: [f64; 6] = [4.0, 8.0, 15.0, 30.0, 60.0, 120.0];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type Line<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

/// Draws it from what `figures` gives for a scenario.
pub fn draw(path: &Path, figures: impl Fn(&Scenario, Chooser) -> Figures) -> Result<()> {
    let asserted = Scenario::default();
    let lines = |of: &dyn Fn(Chooser) -> Vec<(f64, f64)>| {
        CHOOSERS.map(|(chooser, name, colour)| -> Line<'_> { (name, colour, of(chooser)) })
    };
    let waits = lines(&|chooser| {
        let figures = figures(&asserted, chooser);
        // In nines: 0 is the shortest, 1 is p90, 2 is p99.
        (0..=22).map(|n| f64::from(n) / 10.0).map(|nines| (nines, figures.wait_ms(1.0 - 0.1_f64.powf(nines)))).collect()
    });
    let by_load = lines(&|chooser| {
        let at = |utilisation| figures(&Scenario { utilisation, ..asserted.clone() }, chooser).wait_ms(0.99);
        LOADS.map(|load| (load * 100.0, at(load))).to_vec()
    });
    let by_work = lines(&|chooser| {
        let at = |work_s: f64| {
            // As many requests for each.
            let seconds = asserted.warm_up_s + ((asserted.seconds - asserted.warm_up_s) as f64 * work_s / 30.0) as u64;
            figures(&Scenario { work_s, seconds, ..asserted.clone() }, chooser).wait_ms(0.99)
        };
        WORKS_S.map(|work_s| (work_s, at(work_s))).to_vec()
    });

    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let root = SVGBackend::new(path, (1260, 430)).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(TITLE, ("sans-serif", 20))?;
    let (panels, note) = root.split_vertically(360);
    let panels = panels.split_evenly((1, 3));
    let nines = |nines: &f64| match *nines {
        0.0 => "p0".to_owned(),
        1.0 => "p90".to_owned(),
        2.0 => "p99".to_owned(),
        _ => String::new(),
    };
    panel(&panels[0], "at a load of 82 %", ("share of requests", nines), 0.0..2.2, &waits, true)?;
    panel(&panels[1], "p99 by load", ("load on average, %", |x| format!("{x:.0}")), 50.0..95.0, &by_load, false)?;
    let seconds = |x: &f64| format!("{:.0}", 2_f64.powf(*x));
    let by_work = by_work.map(|(name, colour, points)| {
        (name, colour, points.into_iter().map(|(work_s, wait_ms)| (f64::log2(work_s), wait_ms)).collect())
    });
    panel(
        &panels[2],
        "p99 by how long a request takes",
        ("on the slowest host, s", seconds),
        2.0..7.0,
        &by_work,
        false,
    )?;
    let text = "Simulated: 1,000 hosts of 1 to 4 slots and speeds 1 to 8, reports every 3 s, 50 callers, bursts of 1.5 \
                times the load for 1 s in 8, one death a second; 3 seeds. A full host refuses at once.";
    note.draw(&Text::new(text, (20, 8), ("sans-serif", 13)))?;
    root.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    (x_name, x_label): (&str, impl Fn(&f64) -> String),
    x: std::ops::Range<f64>,
    lines: &[Line<'_>],
    legend: bool,
) -> Result<()> {
    let most_ms = lines.iter().flat_map(|(_, _, points)| points).map(|(_, ms)| *ms).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(38)
        .y_label_area_size(52)
        .build_cartesian_2d(x, (0.4..most_ms * 1.3).log_scale())?;
    let wait = |ms: &f64| format!("{ms}");
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(x_name).y_desc("wait, ms").x_label_formatter(&x_label).y_label_formatter(&wait);
    mesh.light_line_style(WHITE).x_labels(8).label_style(("sans-serif", 12)).draw()?;
    for (name, colour, points) in lines {
        let style = colour.stroke_width(2);
        let line = chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        line.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    if legend {
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).label_font(("sans-serif", 12));
        labels.draw()?;
    }
    Ok(())
}
