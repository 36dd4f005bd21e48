use super::*;
use crate::gpu::find_model;
use proptest::prelude::*;

fn model(id: &str) -> &'static GpuModel {
    find_model(id).unwrap()
}

fn names(placements: &[Placement]) -> Vec<&str> {
    placements.iter().map(|p| p.profile.as_str()).collect()
}

/// A layout in shorthand on an H100: "1g×7", "2g×3+1g"; "dbl" is the one-slice profile of double memory.
fn h100(text: &str) -> Vec<&'static str> {
    text.split('+')
        .flat_map(|part| {
            let (short, count) = part.split_once('×').unwrap_or((part, "1"));
            let name = match short {
                "1g" => "1g.10gb",
                "dbl" => "1g.20gb",
                "2g" => "2g.20gb",
                "3g" => "3g.40gb",
                "4g" => "4g.40gb",
                "7g" => "7g.80gb",
                other => panic!("{other}"),
            };
            vec![name; count.parse().unwrap()]
        })
        .collect()
}

#[test]
fn legal_layouts_of_eight_slices_are_legal() {
    for text in [
        "1g×7",
        "2g×3+1g",
        "2g×3+dbl",
        "dbl×4",
        "3g+2g+1g+1g",
        "3g+2g+2g",
        "3g+3g",
        "4g+3g",
        "4g+2g+1g",
        "4g+1g×3",
        "3g+dbl×2",
        "7g",
    ] {
        let placed = place_layout(model("h100-sxm"), &h100(text));
        assert!(placed.is_ok(), "{text}: {placed:?}");
        let ordered = create_in_order(model("h100-sxm"), &h100(text));
        assert!(ordered.is_ok(), "{text}, largest first: {ordered:?}");
    }
}

#[test]
fn nothing_else_fits_beside_two_3g() {
    for extra in ["1g", "dbl", "2g"] {
        assert!(place_layout(model("h100-sxm"), &h100(&format!("3g+3g+{extra}"))).is_err(), "{extra}");
    }
}

#[test]
fn illegal_layouts_say_why_and_what_is_near() {
    for (text, problem, nearest) in [
        ("1g×8", LayoutProblem::TooMany, "1g×7"),
        // As many instances: one of them with less memory. 3 × 2 slices + 2 × 1 = 8.
        ("dbl×5", LayoutProblem::TooMany, "dbl×3+1g×2"),
        ("2g×4", LayoutProblem::TooMany, "2g×3+dbl"),
        ("3g+3g+1g", LayoutProblem::Capacity, "3g+2g+1g"),
        ("7g+1g", LayoutProblem::Capacity, "4g+1g"),
    ] {
        let error = place_layout(model("h100-sxm"), &h100(text)).unwrap_err();
        assert_eq!(error.problem, problem, "{text}: {error}");
        assert_eq!(error.nearest, h100(nearest), "{text}: {error}");
        assert!(error.to_string().contains("nearest legal layout"), "{error}");
    }
}

#[test]
fn order_is_called_order_and_not_capacity() {
    let m = model("a100-40gb");
    let by_id = |ids: &[u32]| -> Vec<&str> {
        let profiles = &m.mig.as_ref().unwrap().profiles;
        ids.iter().map(|id| profiles.iter().find(|p| p.id == *id).unwrap().name.as_str()).collect()
    };
    let error = create_in_order(m, &by_id(&[19, 19, 14, 9])).unwrap_err();
    assert_eq!(error.problem, LayoutProblem::Order);
    assert!(error.to_string().starts_with("order, not capacity"), "{error}");
    assert_eq!(error.nearest, by_id(&[9, 14, 19, 19]));
    assert!(create_in_order(m, &by_id(&[9, 19, 14, 19])).is_ok());
    // As `nvidia-smi mig -cgi 9,9` shows it.
    let starts: Vec<u32> = create_in_order(m, &by_id(&[9, 9])).unwrap().iter().map(|p| p.start).collect();
    assert_eq!(starts, [4, 0]);
}

#[test]
fn a_name_of_another_model_is_recognised() {
    let error = place_layout(model("h100-sxm"), &["1g.5gb", "1g.5gb"]).unwrap_err();
    assert_eq!(error.problem, LayoutProblem::UnknownProfile);
    assert!(error.to_string().contains("that is the name on a100-40gb;"), "{error}");
    assert_eq!(error.nearest, ["1g.10gb", "1g.10gb"]);
    let error = place_layout(model("h200"), &["3g.40gb"]).unwrap_err();
    assert!(error.to_string().contains("3g.71gb"), "{error}");
    // One slice on four models, the double one on a fifth.
    let error = place_layout(model("h200"), &["1g.10gb"]).unwrap_err();
    assert!(error.to_string().contains("the one of that shape here is 1g.18gb"), "{error}");
    let error = place_layout(model("h100-sxm"), &["3g.04gb"]).unwrap_err();
    assert!(error.to_string().contains("the nearest name is 3g.40gb"), "{error}");
    let error = place_layout(model("t4"), &["3g.40gb"]).unwrap_err();
    assert_eq!((error.problem, error.nearest), (LayoutProblem::NoMig, vec![]));
    assert_eq!(place_layout::<&str>(model("h200"), &[]).unwrap_err().problem, LayoutProblem::Empty);
}

#[test]
fn media_engines_are_counted() {
    // Each takes the one optical-flow engine of the card.
    let error = place_layout(model("a30"), &["1g.6gb+me", "2g.12gb+me"]).unwrap_err();
    assert_eq!(error.problem, LayoutProblem::Capacity);
    assert!(place_layout(model("rtx-pro-6000"), &["1g.24gb+me.all", "1g.24gb-me", "2g.48gb-me"]).is_ok());
    assert!(place_layout(model("rtx-pro-6000"), &["1g.24gb+me.all", "1g.24gb"]).is_err());
}

#[test]
fn other_slicings_have_their_own_placements() {
    let starts = |id: &str, layout: &str| -> Vec<(u32, u32)> {
        parse_layout(model(id), layout).unwrap().iter().map(|p| (p.start, p.size)).collect()
    };
    assert_eq!(starts("rtx-pro-6000", "2g.48gb+1g.24gb+1g.24gb"), [(6, 6), (3, 3), (0, 3)]);
    assert_eq!(starts("a30", "2g.12gb+1g.6gb+1g.6gb"), [(2, 2), (1, 1), (0, 1)]);
    assert!(parse_layout(model("a30"), "1g.6gb+1g.6gb+1g.6gb+1g.6gb+1g.6gb").is_err());
}

#[test]
fn names_of_mig_parted_resolve_per_model() {
    let layout = |id: &str, text: &str| -> Vec<String> {
        parse_layout(model(id), text).unwrap().into_iter().map(|p| p.profile).collect()
    };
    assert_eq!(layout("h100-sxm", "all-balanced"), ["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"]);
    assert_eq!(layout("a30", "all-balanced"), ["2g.12gb", "1g.6gb", "1g.6gb"]);
    assert_eq!(layout("rtx-pro-6000", "all-balanced"), ["2g.48gb", "1g.24gb", "1g.24gb"]);
    assert_eq!(layout("h100-sxm", "all-1g.10gb").len(), 7);
    assert_eq!(layout("a100-40gb", "all-1g.10gb").len(), 4);
    assert_eq!(layout("h100-sxm", "all-1g.20gb").len(), 4);
    assert_eq!(layout("h200", "all-1g.35gb").len(), 4);
    assert_eq!(layout("h100-sxm", "all-1g.10gb.me"), ["1g.10gb+me"]);
    assert_eq!(layout("rtx-pro-6000", "all-1g.24gb.me.all"), ["1g.24gb+me.all"]);
    assert_eq!(layout("rtx-pro-6000", "all-2g.48gb-me"), ["2g.48gb-me", "2g.48gb-me"]);
    assert!(parse_layout(model("h100-sxm"), "all-ballanced").is_err());
    assert!(parse_layout(model("h100-sxm"), "").is_err());
}

#[test]
fn the_plus_of_a_profile_is_not_a_separator() {
    let text = "3g.40gb + 1g.10gb+me + 1g.10gb";
    let layout = parse_layout(model("h100-sxm"), text).unwrap();
    assert_eq!(names(&layout), ["3g.40gb", "1g.10gb+me", "1g.10gb"]);
}

fn with_mig() -> impl Strategy<Value = &'static GpuModel> {
    proptest::sample::select(models().iter().filter(|m| m.mig.is_some()).collect::<Vec<_>>())
}

fn any_layout() -> impl Strategy<Value = (&'static GpuModel, Vec<String>)> {
    with_mig().prop_flat_map(|m| {
        let profiles: Vec<String> = m.mig.iter().flat_map(|mig| &mig.profiles).map(|p| p.name.clone()).collect();
        (Just(m), proptest::collection::vec(proptest::sample::select(profiles), 1..9))
    })
}

proptest! {
    #[test]
    fn what_is_accepted_has_disjoint_legal_placements((m, layout) in any_layout()) {
        if let Ok(placed) = place_layout(m, &layout) {
            let mig = m.mig.as_ref().unwrap();
            prop_assert_eq!(names(&placed), layout.iter().map(String::as_str).collect::<Vec<_>>());
            let mut used = 0;
            for p in &placed {
                let profile = mig.profiles.iter().find(|q| q.name == p.profile).unwrap();
                prop_assert!(profile.starts.contains(&p.start) && p.size == profile.size);
                prop_assert_eq!(used & mask(p.start, p.size), 0);
                used |= mask(p.start, p.size);
            }
            prop_assert!(used < 1 << mig.memory_slices);
        }
    }

    /// The advice "largest first" must hold whenever a layout is legal at all.
    #[test]
    fn largest_first_always_works_where_anything_does((m, layout) in any_layout()) {
        if place_layout(m, &layout).is_ok() {
            let (_, wanted) = known(m, &layout).unwrap();
            let sorted: Vec<&str> = largest_first(&wanted).into_iter().map(|p| p.name.as_str()).collect();
            prop_assert!(create_in_order(m, &sorted).is_ok(), "{:?}", sorted);
        }
    }

    #[test]
    fn order_never_makes_an_illegal_layout_legal((m, layout) in any_layout()) {
        if create_in_order(m, &layout).is_ok() {
            prop_assert!(place_layout(m, &layout).is_ok());
        }
    }

    #[test]
    fn what_is_proposed_is_legal((m, layout) in any_layout()) {
        if let Err(error) = place_layout(m, &layout) {
            prop_assert!(!error.nearest.is_empty());
            prop_assert!(create_in_order(m, &error.nearest).is_ok(), "{}", error);
            prop_assert!(error.nearest.len() <= layout.len());
        }
    }

    #[test]
    fn a_legal_layout_reads_back_as_printed((m, layout) in any_layout()) {
        if let Ok(placed) = place_layout(m, &layout) {
            prop_assert_eq!(parse_layout(m, &layout.join("+")).unwrap(), placed);
        }
    }
}
