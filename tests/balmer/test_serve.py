import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from balmer.serve import open_server, serve_lines


def test_the_report_is_served_here_alone_and_folders_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>report")
    (tmp_path / "data").mkdir()
    with open_server(tmp_path, 0) as server:
        host, port = server.server_address[:2]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert host == "127.0.0.1"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html") as answer:
            assert answer.read() == b"<p>report"
        for path in ("data/", "../secret"):
            with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}")
            refused.value.close()
        server.shutdown()
    lines = serve_lines(port)
    assert f"http://127.0.0.1:{port}/index.html" in lines[0]
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in lines[1]
