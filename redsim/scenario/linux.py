"""What a scenario says of a host's Linux: huge pages, overcommit, and the kernel's version where the answer depends on it.

    hosts: {box: {profile: default, thp: always, linux: "5.4", overcommit_memory: 2}}

Not modelled: other settings of vm.* (swappiness, dirty_ratio), cgroups of their own; `memory` of a host may be a cgroup's limit.
"""

from typing import Literal

from pydantic import Field

from redsim.scenario.shape import Model


class Linux(Model):
    """Part of a host."""

    linux: str = Field(default="6.1", pattern=r"^[2-9]\.[0-9]{1,3}(\.[0-9]{1,3})?$")  # huge pages and the OOM killer differ
    thp: Literal["always", "madvise", "never"] = "madvise"  # transparent huge pages; Redis turns them off (disable-thp)
    overcommit_memory: Literal[0, 1, 2] = 0  # vm.overcommit_memory: may a fork be refused?
    async_fork: bool = False  # what if: the child copies the page tables
