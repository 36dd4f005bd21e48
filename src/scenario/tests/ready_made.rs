//! The files under scenarios/smoke, acceptance and certify: made of the parts that `crosstalk init` writes, so that all
//! cards are tested alike.

use crate::scenario::Tier;
use crate::scenario::suite::{self, Template};

/// Name of the files, glob over product names, and the card in words.
const CARDS: &[(&str, &str, &str)] =
    &[("h100", "H100*", "H100"), ("a100", "A100*", "A100"), ("h200", "H200*", "H200"), ("a30", "A30", "A30")];

const MIG_OFF: &[&Template] = &[&suite::TIME_SLICING_2, &suite::TIME_SLICING_4, &suite::MPS, &suite::STREAMS];
const MIG_ON: &[&Template] = &[&suite::MIG, &suite::COMPUTE_INSTANCES, &suite::MIG_TIME_SLICING, &suite::MIG_MPS];

fn file(tier: Tier, name: &str, words: &str, gpu: Option<&str>, arrangements: &[&Template]) -> (String, String) {
    let arrangements: Vec<_> = arrangements.iter().map(|template| (*template, None)).collect();
    let gpu = gpu.map_or_else(String::new, |gpu| format!("gpu = \"{gpu}\"\n"));
    let text = format!(
        "# {words}: are tenants that share this GPU isolated from one another?\n\
         # `crosstalk run {tier}/{name}` runs it on the machine as it is, `crosstalk check {tier}/{name}` says how long it takes.\n\
         # Made of the parts in src/scenario/suite.rs.\n\
         schema = 1\n\
         name = \"{name}-{tier}\"\n\
         description = \"{words}: which neighbour does a victim notice under which way of sharing?\"\n\
         {gpu}{}",
        suite::body(tier, &arrangements)
    );
    (format!("{tier}/{name}"), text)
}

#[test]
fn the_files_are_made_of_the_parts_that_init_writes() {
    for tier in Tier::ALL {
        for (id, glob, card) in CARDS {
            for (state, arrangements) in [("off", MIG_OFF), ("on", MIG_ON)] {
                let words = format!("{card} with MIG {state}");
                let (name, text) = file(*tier, &format!("{id}-mig-{state}"), &words, Some(glob), arrangements);
                super::made::committed(&format!("scenarios/{name}.toml"), &text);
            }
        }
        let (name, text) = file(*tier, "no-mig", "A card without MIG, or with MIG off", None, MIG_OFF);
        super::made::committed(&format!("scenarios/{name}.toml"), &text);
    }
}
