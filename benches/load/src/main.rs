//! Command line of the load generator: arguments in, one line of JSON out.
//!
//! Exit status: 0 when the window was measured (look at `errors` in the line), 1 when it could not
//! be (refused, stalled, too many errors), 2 for bad arguments.

use std::process::ExitCode;

use oxloop_load::args::{Args, USAGE};
use oxloop_load::run::run;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let args = match Args::parse(&words) {
        Ok(args) => args,
        Err(problem) => {
            eprintln!("oxloop-load: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(report) => {
            println!("{}", report.to_json());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("oxloop-load: {problem}");
            ExitCode::FAILURE
        }
    }
}
