"""Kernels that are started before anybody asks for them (the option `warm`)."""

from __future__ import annotations

import pytest

from ..conftest import InstallSpec, Session, Start, eventually
from ..rig import Host, Rig

WHO = "__import__('os').environ['KERNEL_ID']"


@pytest.fixture
def machine(rig: Rig) -> Host:
    """The host that the kernels are on: where they can be told apart from the others'."""
    return rig.hosts[0]


def kernels(machine: Host) -> list[int]:
    """The ipykernels that run there, by age."""
    return [p.pid for p in machine.processes() if "ipykernel_launcher" in p.argv]


def wait_for_one(machine: Host, *others: Session) -> int:
    """The one that is ready, beside those of `others`."""
    taken = {other.value("__import__('os').getpid()") for other in others}
    eventually(lambda: set(kernels(machine)) - taken, 20)
    eventually(lambda: len([f for f in machine.files("/tmp") if f.endswith("/k-5")]) > len(taken))
    (pid,) = set(kernels(machine)) - taken
    return pid


@pytest.fixture
def name(machine: Host, home: object, install_spec: InstallSpec) -> str:
    return install_spec(machine.target, warm=1)


def test_a_warm_kernel_becomes_the_next_one(
    machine: Host, name: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(name)
    ready = wait_for_one(machine, first)
    monkeypatch.setenv("KERNEL_COLOUR", "green")
    monkeypatch.setenv("KERNEL_WORKING_DIR", "/usr")
    monkeypatch.setenv("JPY_SESSION_NAME", "/usr/one.ipynb")
    second = start(name)
    assert second.value("__session__") == "/usr/one.ipynb"
    assert second.value("__import__('os').getpid()") == ready
    assert second.value(WHO) == second.manager.provisioner.kernel_id
    assert second.value("__import__('os').environ['KERNEL_COLOUR']") == "green"
    assert second.value("__import__('os').getcwd()") == second.value("str(_dh[0])") == "/usr"
    assert "KERNEL_COLOUR" not in first.value("dict(__import__('os').environ)")
    assert first.value(WHO) != second.value(WHO)
    assert first.value("len(__import__('sys').modules)") > 100

    second.manager.restart_kernel()  # in place, by a fork: what is warm is for new kernels
    second.client.kernel_info(reply=True, timeout=30)
    assert second.value("__import__('os').environ['KERNEL_COLOUR']") == "green"
    assert second.value("__import__('os').getcwd()") == "/usr"
    eventually(lambda: len(kernels(machine)) == 3, 20)  # and another is made ready


def test_startup_files_know_whose_they_are(
    machine: Host, home: object, install_spec: InstallSpec, start: Start
) -> None:
    startup = f"{machine.home}/ipython/profile_default/startup/00-who.py"
    machine.write(startup, f"who = {WHO}\n")
    name = install_spec(machine.target, warm=1, env={"IPYTHONDIR": f"{machine.home}/ipython"})
    first = start(name)
    ready = wait_for_one(machine, first)
    second = start(name)
    assert second.value("__import__('os').getpid()") == ready
    assert second.value("who") == second.value(WHO)
    machine.run(["rm", "-rf", f"{machine.home}/ipython"])


def test_a_warm_kernel_that_has_ended_is_not_missed(machine: Host, name: str, start: Start) -> None:
    first = start(name)
    ready = wait_for_one(machine, first)
    machine.run(["kill", "-KILL", str(ready)])
    second = start(name)
    assert second.value("1 + 1") == 2
    assert second.value("__import__('os').getpid()") != ready


def test_another_environment_has_no_use_for_it(
    machine: Host, name: str, install_spec: InstallSpec, start: Start
) -> None:
    first = start(name)
    ready = wait_for_one(machine, first)
    other = start(install_spec(machine.target, name="other", env={"COLOUR": "red"}))
    assert other.value("__import__('os').getpid()") != ready
    assert other.value("__import__('os').environ['COLOUR']") == "red"
    # The same kernelspec without the option: what is ready is used up, then there is no more.
    last = start(install_spec(machine.target, name=name))
    assert last.value("__import__('os').getpid()") == ready
    assert len(kernels(machine)) == 3


@pytest.mark.parametrize("value", [-1, "many"])
def test_no_number_of_kernels(
    machine: Host, home: object, install_spec: InstallSpec, start: Start, value: object
) -> None:
    with pytest.raises(Exception, match="warm"):
        start(install_spec(machine.target, warm=value))
