//! From the words of the command line to a command, or to one line that says what is wrong.
//!
//! Flags are moved in front before the words are parsed: so global flags may stand anywhere before
//! `--`, and a list of values that may begin with `-` does not swallow them.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _};

use super::args::Cli;
use super::failure::Failure;

/// What the words ask for.
pub(crate) enum Asked {
    /// A command.
    Command(Box<Cli>),
    /// Text for stdout: help or the version.
    Text(String),
}

/// Parses the words after the program's name.
///
/// # Errors
/// A usage failure, with a suggestion where one is near.
pub(crate) fn parse(words: Vec<OsString>, colour: bool) -> Result<Asked, Failure> {
    let mut grammar = Cli::command();
    grammar.build();
    if words.is_empty() {
        let help = grammar.render_help();
        return Ok(Asked::Text(if colour { help.ansi().to_string() } else { help.to_string() }));
    }
    let ordered = order(&grammar, words.clone());
    let program = std::iter::once(OsString::from("kdelta"));
    let matches = grammar.try_get_matches_from_mut(program.chain(ordered));
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Asked::Command(Box::new(cli))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let text = error.render();
                let text = if colour { text.ansi().to_string() } else { text.to_string() };
                Ok(Asked::Text(text))
            }
            _ => Err(explain(&error, &words)),
        },
    }
}

/// Whether the words ask for JSON: wrong words are answered in it too.
pub(crate) fn wants_json(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// Moves flags in front: global ones before the command, its own before its values.
fn order(grammar: &clap::Command, words: Vec<OsString>) -> Vec<OsString> {
    let mut command = grammar;
    let (mut global, mut path, mut own, mut values) = (vec![], vec![], vec![], vec![]);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            values.push(word);
            values.extend(words);
            break;
        }
        if let Some(flag) = flag(command, &word) {
            let list = if flag.is_global_set() { &mut global } else { &mut own };
            let separate =
                flag.get_action().takes_values() && !word.as_encoded_bytes().contains(&b'=');
            list.push(word);
            list.extend(separate.then(|| words.next()).flatten());
        } else if let Some(next) = subcommand(command, &word, values.is_empty()) {
            command = next;
            path.push(word);
        } else {
            values.push(word);
        }
    }
    global.into_iter().chain(path).chain(own).chain(values).collect()
}

fn flag<'a>(command: &'a clap::Command, word: &OsStr) -> Option<&'a clap::Arg> {
    let long = word.to_str()?.strip_prefix("--")?;
    let name = long.split_once('=').map_or(long, |(name, _)| name);
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

fn subcommand<'a>(
    command: &'a clap::Command,
    word: &OsStr,
    first: bool,
) -> Option<&'a clap::Command> {
    if first { command.find_subcommand(word) } else { None }
}

fn explain(error: &clap::Error, words: &[OsString]) -> Failure {
    let rendered = error.render().to_string();
    let mut parts = rendered.split("\n\n");
    let what = parts.next().unwrap_or_default();
    let what = what.trim().trim_start_matches("error: ");
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let path: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
        let path = path.iter().take_while(|word| !word.starts_with('-'));
        let help: String = path.flat_map(|word| [word, " "]).collect();
        return Failure::usage("a command is missing").hint(format!("See kdelta {help}--help"));
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        // The nearest comes last.
        Some(ContextValue::Strings(texts)) => texts.last().cloned(),
        _ => None,
    };
    let invalid = context(ContextKind::InvalidSubcommand);
    let near = context(ContextKind::SuggestedSubcommand)
        .or_else(|| context(ContextKind::SuggestedArg))
        .or_else(|| context(ContextKind::SuggestedValue))
        .or_else(|| nearest_command(words, invalid.as_deref()?));
    let hint = match meant_put(words, invalid.as_deref()).or(near) {
        Some(meant) => format!("did you mean: {meant}"),
        None => rendered
            .lines()
            .find_map(|line| line.strip_prefix("Usage: "))
            .map_or_else(|| "See kdelta --help".to_owned(), |usage| format!("Usage: {usage}")),
    };
    Failure::usage(what).hint(hint)
}

/// `set k v` is what other stores call `put k v`.
fn meant_put(words: &[OsString], invalid: Option<&str>) -> Option<String> {
    let plain = |word: &&OsString| word.to_str().is_some_and(|word| !word.starts_with("--"));
    let mut words = words.iter().filter(plain);
    let command = words.next()?;
    let key = words.next()?.to_str()?;
    let value = words.next()?.to_string_lossy();
    (command == "set" && invalid == Some(key)).then(|| format!("put {key} {value}"))
}

/// The command whose name is a slip of the finger away from `typed`.
fn nearest_command(words: &[OsString], typed: &str) -> Option<String> {
    let grammar = Cli::command();
    let parent = words
        .iter()
        .filter_map(|word| grammar.find_subcommand(word))
        .find(|command| command.has_subcommands())
        .unwrap_or(&grammar);
    let names = parent.get_subcommands().flat_map(clap::Command::get_name_and_visible_aliases);
    let most = if typed.chars().count() < 5 { 1 } else { 2 };
    let near = names.map(|name| (slips(typed, name), name)).filter(|(slips, _)| *slips <= most);
    near.min().map(|(_, name)| name.to_owned())
}

/// How many slips lie between two words: a letter too many, too few, wrong, or two swapped
/// (Damerau 1964, without repeated edits of one place).
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let at = |rows: &[Vec<usize>], i: usize, j: usize| {
        rows.get(i).and_then(|row| row.get(j)).copied().unwrap_or(usize::MAX / 2)
    };
    for (i, x) in a.iter().enumerate() {
        rows.push(vec![i + 1]);
        for (j, y) in b.iter().enumerate() {
            let mut least = at(&rows, i, j) + usize::from(x != y);
            least = least.min(at(&rows, i, j + 1) + 1).min(at(&rows, i + 1, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                least = least.min(at(&rows, i - 1, j - 1) + 1);
            }
            if let Some(row) = rows.last_mut() {
                row.push(least);
            }
        }
    }
    at(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::super::args::{Command, Counter, Set};
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn command(line: &str) -> Cli {
        match parse(words(line), false) {
            Ok(Asked::Command(cli)) => *cli,
            Ok(Asked::Text(text)) => panic!("{line}: {text}"),
            Err(failure) => panic!("{line}: {}", failure.line()),
        }
    }

    fn refused(line: &str) -> String {
        match parse(words(line), false) {
            Ok(_) => panic!("{line} was taken"),
            Err(failure) => failure.line(),
        }
    }

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "{path} has no example");
                assert!(sub.get_about().is_some(), "{path} says not what it does");
                check(sub, &path);
            }
        }
        check(&Cli::command(), "kdelta");
    }

    #[test]
    fn global_flags_stand_anywhere_before_two_dashes() {
        for line in
            ["--json --space s put k v", "put --json k --space s v", "put k v --space=s --json"]
        {
            let cli = command(line);
            assert!(cli.globals.json, "{line}");
            assert_eq!(cli.globals.space.as_deref(), Some("s"), "{line}");
        }
        let Command::Put(put) = command("put k -- --json").command else { panic!() };
        assert_eq!(put.value, "--json");
    }

    #[test]
    fn values_numbers_and_points_begin_with_a_dash() {
        let Command::Put(put) = command("put k -5").command else { panic!() };
        assert_eq!(put.value, "-5");
        let Command::Put(put) = command("put k -").command else { panic!() };
        assert_eq!(put.value, "-");
        let Command::Counter(Counter::Add { by, .. }) = command("counter add k -3").command else {
            panic!()
        };
        assert_eq!(by, -3);
        let Command::Get(get) = command("get k --at -5m").command else { panic!() };
        assert_eq!(get.at.as_deref(), Some("-5m"));
        let Command::Diff(diff) = command("diff k -5m -1m --json").command else { panic!() };
        assert_eq!((diff.from.as_str(), diff.to.as_deref()), ("-5m", Some("-1m")));
    }

    #[test]
    fn a_list_of_values_swallows_no_flags() {
        let cli = command("set add k -1 --retype x --json --request-id r y");
        assert!(cli.globals.json);
        let Command::Set(Set::Add(add)) = cli.command else { panic!() };
        assert_eq!(add.elements, ["-1", "x", "y"]);
        assert!(add.retype);
        assert_eq!(add.write.request_id.as_deref(), Some("r"));
    }

    #[test]
    fn a_tag_is_created_with_and_without_the_verb() {
        let Command::Tag(tag) = command("tag v1 --at -5m --json").command else { panic!() };
        assert_eq!(tag.create.name.as_deref(), Some("v1"));
        assert!(
            matches!(command("tag --json list").command, Command::Tag(t) if t.action.is_some())
        );
        assert!(matches!(command("tag create v1").command, Command::Tag(t) if t.action.is_some()));
        assert!(matches!(command("tag").command, Command::Tag(t) if t.create.name.is_none()));
    }

    #[test]
    fn aliases_are_the_commands_themselves() {
        assert!(matches!(command("rm k").command, Command::Delete(_)));
        assert!(matches!(command("del k").command, Command::Delete(_)));
        assert!(matches!(command("ls").command, Command::List(_)));
        assert!(matches!(command("log").command, Command::History(_)));
        assert!(matches!(command("start").command, Command::Serve(_)));
    }

    #[test]
    fn a_slip_is_one_letter_or_two_swapped() {
        assert_eq!(slips("gte", "get"), 1);
        assert_eq!(slips("histroy", "history"), 1);
        assert_eq!(slips("lst", "list"), 1);
        assert_eq!(slips("get", "get"), 0);
        assert_eq!(slips("", "get"), 3);
        assert_eq!(slips("äb", "bä"), 1);
    }

    #[test]
    fn typing_errors_are_answered_with_what_is_near() {
        let lines = [
            "set k v",
            "gte k",
            "space lsit",
            "get k --conflict",
            "put k",
            "counter add k x",
            "space",
            "completions bsh",
            "put k a b",
            "doc k",
        ];
        let answers: Vec<String> = lines.into_iter().map(refused).collect();
        insta::assert_snapshot!(answers.join("\n"), @r#"
        error: unrecognized subcommand 'k'. did you mean: put k v
        error: unrecognized subcommand 'gte'. did you mean: get
        error: unrecognized subcommand 'lsit'. did you mean: list
        error: unexpected argument '--conflict' found. did you mean: --conflicts
        error: the following required arguments were not provided: <VALUE>. Usage: kdelta put <KEY> <VALUE>
        error: invalid value 'x' for '[N]': invalid digit found in string. See kdelta --help
        error: a command is missing. See kdelta space --help
        error: invalid value 'bsh' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]. did you mean: bash
        error: unexpected argument 'b' found. Usage: kdelta put [OPTIONS] <KEY> <VALUE>
        error: unrecognized subcommand 'doc'. Usage: kdelta [OPTIONS] <COMMAND>
        "#);
    }
}
