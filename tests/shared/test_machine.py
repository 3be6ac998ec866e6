"""How much memory there is, by what Linux says in files."""

import pytest

from tercel.shared.machine import memory_bytes

GIB = 1 << 30


def files(root, **texts):
    """A root directory with those files; two underscores stand for a slash."""
    for name, text in {"proc__meminfo": f"MemTotal: {8 * GIB >> 10} kB\n", **texts}.items():
        path = root.joinpath(*name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_control_group_it_is_what_the_machine_has(tmp_path):
    assert memory_bytes(files(tmp_path)) == 8 * GIB


def test_the_limit_of_a_control_group_is_what_there_is(tmp_path):
    root = files(
        tmp_path,
        proc__self__cgroup="0::/services/web\n",
        **{"sys__fs__cgroup__services__web__memory.max": f"{2 * GIB}\n"},
    )
    assert memory_bytes(root) == 2 * GIB


def test_the_limit_of_an_outer_control_group_counts_too(tmp_path):
    root = files(
        tmp_path,
        proc__self__cgroup="0::/services/web\n",
        **{
            "sys__fs__cgroup__services__memory.max": f"{GIB}\n",
            "sys__fs__cgroup__services__web__memory.max": "max\n",
        },
    )
    assert memory_bytes(root) == GIB


def test_in_a_container_the_group_is_the_root_of_what_is_mounted(tmp_path):
    root = files(
        tmp_path,
        proc__self__cgroup="0::/\n",
        **{"sys__fs__cgroup__memory.max": f"{3 * GIB}\n"},
    )
    assert memory_bytes(root) == 3 * GIB


@pytest.mark.parametrize(("limit", "expected"), [(GIB, GIB), (2**63 - 4096, 8 * GIB)])
def test_version_1_of_control_groups_is_read_too(limit, expected, tmp_path):
    root = files(
        tmp_path,
        proc__self__cgroup="4:cpu,cpuacct:/a\n3:memory:/docker/x\n",
        **{"sys__fs__cgroup__memory__docker__x__memory.limit_in_bytes": f"{limit}\n"},
    )
    assert memory_bytes(root) == expected


def test_this_machine_has_some():
    assert memory_bytes() > 64 << 20


def test_a_system_without_such_files_is_asked_another_way(tmp_path):
    assert memory_bytes(tmp_path) > 64 << 20
