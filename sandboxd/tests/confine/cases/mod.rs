//! The cases, by what they attack.

mod commands;
mod files;
mod matrix;
mod network;
mod profiles;
mod proxy;
mod races;
mod syscalls;
mod terminals;

use crate::inside::Sandbox;

/// A named case.
pub(crate) type Case = (&'static str, fn(&Sandbox));

/// Every case.
pub(crate) const ALL: &[Case] = &[
    ("calls_that_are_refused", syscalls::calls_that_are_refused),
    ("the_supervisor_cannot_be_blinded_or_starved", syscalls::the_supervisor_cannot_be_blinded_or_starved),
    ("the_supervisor_cannot_be_signalled", syscalls::the_supervisor_cannot_be_signalled),
    ("foreign_architectures", syscalls::foreign_architectures),
    ("what_programs_need_still_works", syscalls::what_programs_need_still_works),
    ("files_outside_the_roots", files::files_outside_the_roots),
    ("the_supervisors_proc_files", files::the_supervisors_proc_files),
    ("what_a_command_inherits", files::what_a_command_inherits),
    ("other_hosts_and_other_listeners", network::other_hosts_and_other_listeners),
    ("a_port_that_passed_to_somebody_else", network::a_port_that_passed_to_somebody_else),
    ("socket_families_and_protocols", network::socket_families_and_protocols),
    ("ways_to_connect_without_connect", network::ways_to_connect_without_connect),
    ("listeners_stay_on_loopback", network::listeners_stay_on_loopback),
    ("unix_sockets", network::unix_sockets),
    ("sockets_behave_as_usual", network::sockets_behave_as_usual),
    ("servers_and_clients", network::servers_and_clients),
    ("a_stuck_connection_holds_up_nobody", network::a_stuck_connection_holds_up_nobody),
    ("the_setup_phase_has_the_pods_network", network::the_setup_phase_has_the_pods_network),
    ("the_proxy_is_the_only_way_out", proxy::the_proxy_is_the_only_way_out),
    (
        "connections_of_the_proxy_are_known_by_their_command",
        proxy::connections_of_the_proxy_are_known_by_their_command,
    ),
    ("address_flipped_during_connect", races::address_flipped_during_connect),
    ("family_flipped_during_connect", races::family_flipped_during_connect),
    ("family_flipped_during_bind", races::family_flipped_during_bind),
    ("descriptor_flipped_during_connect", races::descriptor_flipped_during_connect),
    ("linux_6_10_without_scopes", profiles::linux_6_10_without_scopes),
    ("linux_6_2_without_tcp_rules", profiles::linux_6_2_without_tcp_rules),
    ("attempts_in_every_mode_and_profile", matrix::attempts_in_every_mode_and_profile),
    ("exits_are_reported", commands::exits_are_reported),
    ("a_command_that_kills_its_subreaper", commands::a_command_that_kills_its_subreaper),
    ("a_command_that_kills_its_nursery", commands::a_command_that_kills_its_nursery),
    ("a_command_that_stops_its_nursery", commands::a_command_that_stops_its_nursery),
    ("commands_that_cannot_start", commands::commands_that_cannot_start),
    ("commands_of_a_phase_signal_each_other", commands::commands_of_a_phase_signal_each_other),
    ("whole_trees_are_killed", commands::whole_trees_are_killed),
    ("a_fork_bomb", commands::a_fork_bomb),
    ("a_phase_ends_with_everything_killed", commands::a_phase_ends_with_everything_killed),
    ("other_terminals", terminals::other_terminals),
    ("a_command_on_a_terminal", terminals::a_command_on_a_terminal),
    ("terminals_of_a_commands_own", terminals::terminals_of_a_commands_own),
];
