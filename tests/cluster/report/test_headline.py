from cluster.report.headline import name_cluster, visible


def test_text_for_a_terminal_shows_white_space_and_cannot_act() -> None:
    shown = visible("\n    if\t\x1b[31m\x00\u202e\u2028é🎉")
    assert shown == "⏎····if⇥\\u{1b}[31m\\u{0}\\u{202e}\\u{2028}é🎉"
    assert all(character.isprintable() for character in shown)


def test_a_cluster_is_named_by_its_tokens() -> None:
    assert name_cluster([" self", "cls"], ["("], 0) == "`·self` or `cls` after `(`"
    assert name_cluster(["x"], [], 0) == "`x`"
    assert name_cluster(["x"], ["y"], 7) == "`x` or 7 others after `y`"
