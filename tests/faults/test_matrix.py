"""The faults that a refresh must survive, and the tests that inject them. A row without a test says why."""

import re

import pytest

from tests.conftest import ROOT

MATRIX: dict[str, tuple[str, ...] | str] = {
    "executor killed amid encoding": (
        "test_a_lost_executor_is_replaced_and_the_table_has_the_same_bits",
        "test_a_killed_executor_and_a_killed_worker_change_no_row",
    ),
    "Python worker killed": ("test_a_killed_python_worker_changes_no_bit",),
    "driver killed at each step of publishing": (
        "test_a_job_killed_around_its_commit_shows_whole_lists_and_the_next_run_completes",
        "test_a_refresh_killed_again_and_again_ends_where_an_undisturbed_one_does",
        "test_a_refresh_killed_at_every_point",
        "test_a_hybrid_refresh_killed_at_every_point",
        "test_a_killed_encoding_resumes_with_what_was_missing",
        "test_a_short_soak_run_finds_nothing",
    ),
    "export killed before it shows the new version": (
        "test_a_kill_between_writing_and_flipping_leaves_the_old_version_and_whole_lists",
    ),
    "server of an export down": (
        "test_a_server_that_is_down_is_a_passing_fault_and_what_was_exported_stays",
        "test_a_server_that_goes_down_within_an_export_leaves_the_old_version",
    ),
    "private release killed between the ledger and its rows": ("test_releases_are_paid_once_and_together",),
    "two private releases at once": ("test_two_releases_at_once_cannot_overdraw",),
    "two exports at once": ("test_of_two_exports_at_once_the_one_that_was_overtaken_ends_with_5",),
    "stream killed between the commits of a batch": (
        "test_a_stream_that_fails_anywhere_loses_and_doubles_nothing",
        "test_a_killed_stream_loses_and_doubles_nothing",
    ),
    "stream whose source or store is away": (
        "test_a_transient_fault_is_tried_again",
        "test_faults_have_an_error_for_people",
        "test_messages_that_were_removed_before_they_were_read_are_an_error_that_names_them",
    ),
    "driver stopped by SIGTERM": (
        "test_sigterm_ends_a_stream_after_the_running_batch",
        "test_a_job_stopped_by_sigterm_ends_with_143_and_publishes_nothing",
        "test_sigterm_stops_a_run_with_143_and_publishes_nothing",
        "test_sigterm_amid_a_spark_job_stops_it_with_143",
    ),
    "out of memory on the GPU": ("test_out_of_memory_halves_the_batch_down_to_one_text_and_changes_no_vector",),
    "out of memory on the host": ("test_a_worker_without_memory_is_told_what_to_change",),
    "truncated input or table file": (
        "test_a_truncated_data_file_is_named",
        "test_a_raw_file_that_is_cut_off_is_named",
    ),
    "flipped bit in a data page": (
        "test_a_flipped_byte_in_a_data_page_is_an_error_and_not_a_wrong_sum",
        # where its writer left page checksums out, as many do, nobody can tell a flipped number from another one
        "test_a_flipped_byte_in_a_raw_file_is_named_and_no_other_value",
        "test_a_flipped_byte_in_a_block_is_an_error_and_not_another_score",
    ),
    "NaN from the model": ("test_a_text_that_fails_with_nan_is_stored_apart_with_its_reason",),
    "zero vectors, empty texts": (
        "test_vectors_without_a_direction_are_left_out_on_both_sides",
        "test_no_text_has_no_hash_and_what_is_no_number_has_no_price",
    ),
    "huge text": (
        "test_a_huge_text_is_cut",
        "test_a_text_cut_by_characters_counts_as_truncated_however_few_tokens_it_has",
    ),
    "empty ids": (
        "test_items_without_an_id_are_rejected_each_on_its_own",
        "test_bad_events_are_rejected_with_the_reason",
    ),
    "one item twice": ("test_duplicates_fall_the_same_way_however_the_rows_lie",),
    "one event twice": (
        "test_at_the_gate_and_with_duplicates_everything_is_published",
        "test_events_delivered_twice_weigh_what_they_weigh_once",
    ),
    "another model": ("test_two_vector_spaces_never_meet", "test_a_table_that_mixes_vector_spaces_is_refused"),
    "poisoned pickle": (
        "test_pickled_weights_are_named_refused_and_never_opened",
        "test_a_pickle_is_not_opened_even_if_the_folder_was_not_checked",
    ),
    "a model's name that leaves its folder": ("test_a_model_that_is_not_a_plain_path_is_refused",),
    "a user with very many events": ("test_a_user_with_very_many_events_is_one_sum",),
    "an item in most events": "pairs are grouped by user and meet item blocks: no task is an item's",
    "clock skew": (
        "test_an_event_that_was_in_the_future_is_read_on_its_day",
        "test_latest_run_date_believes_one_day_after_it",
        "test_no_clock_but_run_date",
    ),
    "any script, lone surrogates": (
        "test_lone_surrogates_become_replacement_characters",
        "test_texts_of_any_script_and_items_without_a_text_are_embedded_or_left_out",
    ),
    "empty or missing day": (
        "test_a_source_with_a_header_alone_makes_an_empty_table_and_is_refused",
        "test_a_missing_source_is_named_before_spark_is_asked",
        "test_a_day_without_anything_new_keeps_the_lists_and_dates_them",
    ),
    "another schema": (
        "test_an_error_in_a_dataset_file_names_the_table_and_the_column",
        "test_numbers_and_times_of_other_types_are_understood",
        "test_a_column_of_another_type_is_read_as_text_and_its_values_are_named",
        "test_a_file_without_a_wanted_column_is_quarantined_row_by_row",
    ),
    "malformed records": ("test_malformed_records_go_to_quarantine_and_the_rest_is_published",),
    "two refreshes at once": (
        "test_no_update_is_lost_in_a_race_of_writers",
        "test_no_update_is_lost_in_a_long_race",
        "test_of_two_refreshes_at_once_every_version_is_whole",
        "test_a_short_soak_run_finds_nothing",
        "test_a_short_soak_run_on_s3_finds_nothing",
        "test_a_run_is_refused_if_another_one_has_replaced_the_version_it_started_from",
        "test_two_runs_that_overwrite_the_same_version_conflict",
    ),
    "a store that ignores conditions": ("test_a_store_that_ignores_conditions_is_refused_before_any_work",),
    "disk full": ("test_a_full_disk_is_a_passing_fault_that_leaves_no_partial_files",),
    "a store that fails now and then": (
        "test_a_store_that_fails_now_and_then_is_asked_again",
        "test_a_commit_whose_answer_is_lost_is_made_once_and_is_no_conflict",
    ),
    "network cut to an executor": ("test_a_lost_executor_is_replaced_and_the_table_has_the_same_bits",),
    "damaged checkpoint": ("test_a_damaged_checkpoint_gives_way_to_the_one_before",),
    "a user who must be forgotten": (
        "test_who_is_forgotten_is_in_no_file_of_the_lake_and_not_in_the_next_night",
        "test_a_forgotten_user_is_in_no_file_and_does_not_come_back",
    ),
    "a user who was forgotten in the source of a clone": (
        "test_forgetting_goes_on_to_the_clones_and_their_clones",
        "test_forgetting_does_not_pass_over_an_unfinished_clone",
        "test_a_night_before_users_were_forgotten_does_not_come_back",
    ),
    "restore or clone killed between two tables": (
        "test_a_restore_that_ends_between_two_tables_is_completed_by_the_same_command",
        "test_a_killed_clone_is_no_lake_and_is_completed_by_the_same_command",
        "test_a_clone_that_is_killed_within_a_log_shows_no_older_version",
    ),
    "file or table of an earlier night missing": (
        "test_after_a_vacuum_the_night_is_refused_by_name_and_nothing_changes",
        "test_a_missing_file_is_refused_before_any_commit",
        "test_a_table_that_was_made_again_is_refused",
    ),
    "withdrawn item": ("test_a_night_costs_what_has_changed", "test_any_night_equals_a_full_one"),
    "secrets": (
        "test_the_password_is_in_no_output_and_no_file",
        "test_lists_on_s3_are_those_of_a_local_lake_and_no_key_is_kept",
        "test_a_lake_on_s3_holds_what_a_local_one_does",
    ),
    "damaged commit log": (
        "test_a_damaged_commit_log_is_an_input_error_that_names_the_table",
        "test_a_damaged_or_missing_log_entry_is_told_and_the_entries_before_it_are_the_table",
        "test_a_table_whose_file_is_gone_is_restored_to_the_last_whole_version",
    ),
    "loss that is no number": ("test_a_loss_that_is_no_number_stops_with_the_last_good_weights",),
    "Python without the requirements": (
        "test_an_engine_that_is_missing_on_an_executor_is_named",
        "test_executors_whose_python_has_no_pandas_are_told_in_one_message",
    ),
    "hostile sizes": ("test_k_beyond_the_catalogue_and_users_who_have_seen_everything_give_short_lists",),
    "late, deleted, out-of-order events": ("test_a_night_costs_what_has_changed", "test_any_night_equals_a_full_one"),
    "drift": ("test_drift_beyond_the_bounds_publishes_nothing_until_it_is_accepted",),
}


@pytest.mark.parametrize("fault", MATRIX)
def test_every_fault_has_a_test_or_a_reason(fault):
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    known = {name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    found = MATRIX[fault]
    assert len(found) > 20 if isinstance(found, str) else set(found) <= known
