use super::*;

/// A front that remembers.
#[derive(Default)]
struct Paper {
    lines: Vec<String>,
    played: u64,
    stops_after: Option<u64>,
    reads: Option<usize>,
}

impl Front for Paper {
    fn print(&mut self, lines: &str) -> io::Result<()> {
        if self.reads.is_some_and(|reads| self.lines.len() >= reads) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.lines.push(lines.to_owned());
        Ok(())
    }

    fn played(&mut self, sums: &Sums) {
        self.played = sums.played;
    }

    fn is_stopped(&self) -> bool {
        self.stops_after == Some(self.played)
    }
}

fn say(line: &str) -> (Result<bool, CommandError>, String) {
    let mut paper = Paper::default();
    let words: Vec<&str> = line.split(' ').collect();
    let held = parse(&words).and_then(|command| carry_out(&command, &mut paper));
    (held, paper.lines.concat())
}

#[test]
fn what_is_wrong_is_said() {
    for (line, said) in [
        ("frob", "no command"),
        ("list more", "too many words"),
        ("run --seeds 7", "no range"),
        ("run --seeds 7..7", "no seed in"),
        ("run --seed 1 --seeds 1..2", "not both"),
        ("run --nodes 900", "1 to 20"),
        ("run --seed", "needs a value"),
        ("spread --nodes 1", "2 to 250"),
        ("spread --loss some", "no number"),
        ("replay ./nowhere/at/all", "nowhere/at/all"),
        ("replay ./nowhere --nodes 3", "goes with a seed"),
        ("run --seed 1 --mutant no-such-one", "planted bugs"),
        ("crashes frob", "no crash scenario"),
        ("replay 1 --frob x", "`--frob`"),
        ("run --brief", "`--brief`"),
        ("coverage some", "too many words"),
        ("mutants --every x", "no number"),
        ("mutants frob --seeds 0..1", "no mutant `frob`"),
    ] {
        let error = say(line).0.unwrap_err().to_string();
        let mutants = cfg!(feature = "mutants") && line.contains("mutant");
        assert!(error.contains(said) || mutants && error.contains("no mutant"), "{line}: {error}");
    }
}

#[test]
fn a_seed_that_holds_is_shown_played_and_replayed() {
    let (held, shown) = say("show 3");
    assert!(held.unwrap());
    assert_eq!(Scenario::parse(&shown).unwrap(), Scenario::draw(3));
    for line in ["run --seeds 3..4", "run --seed 3 --nodes 2", "replay 3"] {
        let (held, out) = say(line);
        assert!(held.unwrap() && out.contains("all promises held"), "{line}: {out}");
    }
    let (held, out) = say("shrink 3");
    assert!(held.unwrap() && out.contains("does not fail"), "{out}");
}

#[test]
fn figures_of_spreading_are_told_for_people_and_programs() {
    let (held, out) = say("spread --nodes 9 --commits 10 --loss 0");
    assert!(held.unwrap() && out.starts_with("9 replicas, "), "{out}");
    let (held, out) = say("spread --nodes 9 --commits 10 --json");
    assert!(held.unwrap() && out.contains(",\"copies_milli\":1"), "{out}");
    assert!(out.starts_with("{\"seed\":1,\"replicas\":9,") && out.ends_with(":null}\n"), "{out}");
}

#[test]
fn a_number_of_nodes_takes_the_place_of_what_the_seed_draws() {
    let (_, shown) = say("show 3 --nodes 7");
    let scenario = Scenario::parse(&shown).unwrap();
    assert_eq!(scenario.options.replicas, 7);
    let last = scenario.steps.iter().flat_map(|step| step.action.seats()).max();
    assert!(last.is_some_and(|last| last > Scenario::draw(3).options.replicas), "{shown}");
}

#[test]
fn a_line_of_json_comes_with_each_seed_and_one_at_the_end() {
    let words = ["run", "--seeds", "3..5", "--json"];
    let mut paper = Paper::default();
    assert!(carry_out(&parse(&words).unwrap(), &mut paper).unwrap());
    let [first, second, last] = paper.lines.as_slice() else { panic!("{:?}", paper.lines) };
    assert!(
        first.starts_with("{\"seed\":3,\"digest\":\"") && first.ends_with("null}\n"),
        "{first}"
    );
    assert!(second.contains("\"seed\":4"), "{second}");
    let missed = if cfg!(feature = "marks") { "[\"" } else { "null" };
    let expected = format!("{{\"seeds\":2,\"failed\":[],\"marks_missed\":{missed}");
    assert!(last.starts_with(&expected), "{last}");
    assert_eq!(say("run --seeds 3..5 --json").1, paper.lines.concat(), "the same again");
}

#[test]
fn a_batch_ends_when_it_is_asked_to_or_nobody_reads() {
    let command = parse(&["run", "--seeds", "3..9", "--json"]).unwrap();
    let mut paper = Paper { stops_after: Some(2), ..Paper::default() };
    assert!(matches!(carry_out(&command, &mut paper), Err(CommandError::Stopped)));
    assert_eq!(paper.lines.len(), 2);
    let mut paper = Paper { reads: Some(1), ..Paper::default() };
    assert!(matches!(carry_out(&command, &mut paper), Err(CommandError::Front(_))));
    assert_eq!(paper.played, 2);
}

#[test]
fn a_scenario_in_a_file_is_played_under_its_own_seed_or_others() {
    let dir = std::env::temp_dir().join(format!("kdelta-sim-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("three");
    fs::write(&file, Scenario::draw(3).to_string()).unwrap();
    let name = file.to_str().unwrap();
    let lines = |line: String| say(&line).1.lines().map(str::to_owned).collect::<Vec<_>>();
    let own = lines(format!("run --scenario {name} --json"));
    let drawn = lines("run --seed 3 --json".to_owned());
    assert_eq!(own, drawn);
    let other = lines(format!("run --scenario {name} --seed 4 --json"));
    assert!(other[0].starts_with("{\"seed\":4,") && other[0][8..] != own[0][8..], "{other:?}");
    let clash = say(&format!("run --scenario {name} --nodes 3")).0;
    assert!(matches!(clash, Err(CommandError::Usage(_))));
    let page = dir.join("page.html");
    let (held, _) = say(&format!("replay {name} --html {}", page.display()));
    assert!(held.unwrap() && fs::read_to_string(&page).unwrap().contains("<html"));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn everything_that_has_a_name_is_listed() {
    let (held, out) = say("list");
    assert!(held.unwrap());
    for kind in ["crash ", "mutant ", "mark "] {
        assert!(out.lines().any(|line| line.starts_with(kind)), "{kind}");
    }
    assert!(say("list --json").1.lines().all(|line| line.starts_with("{\"kind\":\"")));
}

#[test]
#[cfg(not(any(feature = "marks", feature = "mutants")))]
fn a_build_without_the_features_says_what_it_needs() {
    for what in ["marks", "mutants"] {
        let command = if what == "marks" { "coverage" } else { what };
        let error = say(command).0.unwrap_err().to_string();
        assert!(error.contains(&format!("kdelta-sim/{what}")), "{error}");
    }
}
