use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<AirliftAgent, clap::Error> {
    AirliftAgent::try_parse_from(line.split_whitespace())
}

#[test]
fn every_command_has_help_that_says_what_it_does() {
    AirliftAgent::command().debug_assert();
    let mut waiting = vec![AirliftAgent::command()];
    while let Some(command) = waiting.pop() {
        assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
        let arguments = command.get_arguments().filter(|argument| !argument.is_global_set());
        for argument in
            arguments.filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
        {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        waiting.extend(command.get_subcommands().cloned());
    }
}

#[test]
fn the_configuration_may_stand_after_the_command() {
    let agent = parse("airlift-agent status -o json --config /x/agent.toml").unwrap();
    assert_eq!(agent.config.as_deref(), Some(std::path::Path::new("/x/agent.toml")));
    assert!(matches!(agent.command, Command::Status(args) if args.output.format == output::Format::Json));
}

#[test]
fn enrolment_has_one_way_at_a_time() {
    assert!(parse("airlift-agent enrol --hub hub --token-file t").is_ok());
    assert!(parse("airlift-agent enrol --media /stick --fleet lab --site berta").is_ok());
    for bad in [
        "airlift-agent enrol",
        "airlift-agent enrol --hub hub",
        "airlift-agent enrol --token-file t",
        "airlift-agent enrol --media /stick --hub hub --token-file t",
        "airlift-agent enrol --media /stick --root-sha256 sha256:abc",
        "airlift-agent enrol --media /stick --site Not_A_Name",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn orders_name_an_app_and_nothing_else() {
    for order in ["hold", "unhold", "retry", "rollback"] {
        assert!(parse(&format!("airlift-agent {order} shop")).is_ok());
        assert!(parse(&format!("airlift-agent {order}")).is_err());
        assert!(parse(&format!("airlift-agent {order} Shop!")).is_err());
    }
}
