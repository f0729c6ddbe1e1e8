"""Labels from a language model: what it is shown, how it is tried, what becomes of the key."""

import argparse
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from balmer.cli import label_run
from balmer.folder import RunFolder
from cluster.report.endpoint import KEY, Endpoint
from cluster.report.inputs import open_inputs
from cluster.report.labelling import choose_trial, numbers_in, open_corpus, write_label
from scale.errors import UserError


class Fake(BaseHTTPRequestHandler):
    """Labels everything "dots", and says that the second excerpt fits."""

    asked: ClassVar[list[dict[str, Any]]] = []
    key = "secret-for-tests"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        allowed = self.headers["Authorization"] == f"Bearer {self.key}"
        self.asked.append({"path": self.path, **body})
        text = "2" if "Which of the marked" in body["messages"][0]["content"] else '"dots"\nand more'
        answer = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Fake.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Fake) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def test_who_knows_is_right_and_who_says_all_or_nothing_is_half_right(made_run: Any) -> None:
    corpus = open_corpus(open_inputs(made_run.folders))
    cluster = 2
    members = {corpus.excerpt(int(row)) for row in np.flatnonzero(corpus.labels == cluster)}

    def ask(choose: Any) -> Any:
        def answer(messages: Any) -> str:
            content = messages[0]["content"]
            if "Which of the marked" not in content:
                return "a label"
            listed = re.findall(r"^(\d+)\. (.*)$", content, re.MULTILINE)
            return ", ".join(number for number, excerpt in listed if choose(excerpt))

        return answer

    assert write_label(corpus, cluster, ask(lambda excerpt: excerpt in members), 0) == ("a label", 1.0)
    assert write_label(corpus, cluster, ask(lambda excerpt: True), 0)[1] == 0.5
    assert write_label(corpus, cluster, ask(lambda excerpt: False), 0)[1] == 0.5
    assert write_label(corpus, cluster, ask(lambda excerpt: excerpt not in members), 0)[1] == 0.0


def test_members_tried_were_not_shown_and_others_are_outside(made_run: Any) -> None:
    corpus = open_corpus(open_inputs(made_run.folders))
    tokens, hard = corpus.rows["token"].to_numpy(), 0
    for cluster in range(12):
        shown, tried, others = choose_trial(corpus, cluster, np.random.default_rng(0))
        assert not set(shown) & set(tried)
        assert (corpus.labels[np.concatenate([shown, tried])] == cluster).all()
        assert (corpus.labels[others] != cluster).all()
        assert len(others) == len(tried) == 8
        same = int(np.isin(tokens[corpus.labels != cluster], tokens[tried]).sum())
        assert np.isin(tokens[others[: min(4, same)]], tokens[tried]).all()
        hard += min(4, same)
    assert hard > 12


def test_numbers_are_read_from_what_a_model_says() -> None:
    assert numbers_in("Excerpts 1, 3 and 12.", 8) == {0, 2}
    assert numbers_in("none", 8) == set()


def test_the_key_is_sent_and_kept_nowhere(
    made_run: Any, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for stage in ("corpus", "upsampled", "clusters"):
        (folder / stage).symlink_to(made_run.folders[stage])
    options = argparse.Namespace(label_with=address, label_model="tiny", label_clusters=3, quiet=True)
    monkeypatch.setenv(KEY, Fake.key)
    table = pl.read_parquet(path := label_run(options, RunFolder(folder)))
    assert table["text"].to_list() == ["dots"] * 3
    assert set(table["by"]) == {"tiny"}
    assert [one["path"] for one in Fake.asked] == ["/v1/chat/completions"] * 6
    assert {one["model"] for one in Fake.asked} == {"tiny"}
    assert path == folder / "labels" / "labels.parquet"
    assert Fake.key.encode() not in path.read_bytes()
    monkeypatch.delenv(KEY)
    with pytest.raises(UserError, match=f"answered 401 .*{KEY}") as refused:
        label_run(options, RunFolder(folder))
    assert Fake.key not in str(refused.value)


def test_mistakes_about_the_endpoint_are_named(address: str) -> None:
    with pytest.raises(UserError, match="--label-with: ftp://x is not an http address"):
        Endpoint("ftp://x", "m")
    with pytest.raises(UserError, match="--label-model"):
        Endpoint(address, "")
    with pytest.raises(UserError, match="could not be asked"):
        Endpoint("http://127.0.0.1:9", "m").ask([])
