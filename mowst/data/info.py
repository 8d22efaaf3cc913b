r"""Description of a data set, and checks that the readers share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import index_to_mask

from mowst.data.splits import Masks, check_node_ids, stratified_split
from mowst.metrics import AnyMetric

Sizes = tuple[int | None, int | None, int | None, int | None]


@dataclass(frozen=True)
class DatasetInfo:
    r"""Description of a data set: where its files are, and how they are read.

    Args:
        name (str): The name in lower case, with hyphens.
        family (str): The folder of the family under the root.
        read (callable): Reads the graph, given the paths of :obj:`files`. Published splits are its
            :obj:`train_mask`, :obj:`val_mask`, :obj:`test_mask`, :math:`(N, S)`. It raises a
            :obj:`ValueError` that names the file if a file is damaged.
        draw (callable, optional): Draws the masks from labels and a seed, with the fractions of the
            published splits. (default: :func:`~mowst.data.stratified_split`)
        num_splits (int, optional): The number of published splits; :obj:`None` if splits are drawn.
            (default: :obj:`None`)
        protocol (str, optional): The splits in words.
            (default: :obj:`"seeded, stratified 50/25/25"`)
        folder (str, optional): The folder in that of the family. (default: :obj:`""`)
        publisher_folder (str, optional): The folder under the root in which the publisher's own
            package puts the same files, read if the other one lacks some. (default: :obj:`""`)
        files (tuple[str, ...], optional): The raw files in that folder. (default: :obj:`()`)
        split_files (tuple[str, ...], optional): The files of published splits in :obj:`splits/`, of
            which one is enough. (default: :obj:`()`)
        urls (dict[str, str], optional): The addresses of files, by the names above. A zip archive
            holds them below one top folder. (default: :obj:`{}`)
        sha256 (dict[str, str], optional): The checksums of downloads, by the name of the file or
            archive. (default: :obj:`{}`)
        cached (bool, optional): If set to :obj:`True`, the graph is cached, since reading is slow.
            (default: :obj:`False`)
        sizes (tuple, optional): The published numbers of nodes, directed edges, features and
            classes, :obj:`None` if unknown. (default: unknown)
        metric (str, Metric or callable, optional): See :class:`~mowst.task.GraphTask`. (default:
            :obj:`"accuracy"`)
        preprocessing (tuple[str, ...], optional): The changes to the raw graph.
            (default: :obj:`()`)
        home (str, optional): The page of the publisher. (default: :obj:`""`)
        licence (str, optional): The licence of the files. (default: :obj:`None`)
    """

    name: str
    family: str
    read: Callable[..., Data]
    draw: Callable[[Tensor, int], Masks] = stratified_split
    num_splits: int | None = None
    protocol: str = "seeded, stratified 50/25/25"
    folder: str = ""
    publisher_folder: str = ""
    files: tuple[str, ...] = ()
    split_files: tuple[str, ...] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    cached: bool = False
    sizes: Sizes = (None, None, None, None)
    metric: AnyMetric = "accuracy"
    preprocessing: tuple[str, ...] = ()
    home: str = ""
    licence: str | None = None

    @property
    def statistics(self) -> dict[str, int | None]:
        r"""The published sizes by name."""
        return dict(zip(("nodes", "edges", "features", "classes"), self.sizes, strict=True))

    def base(self, root: Path) -> Path:
        r"""Returns the folder of the data set under a root: that of the publisher's package, if it
        is complete and ours is not.
        """
        own, publisher = root / self.family / self.folder, root / self.publisher_folder
        if not self.publisher_folder or self._is_complete(own):
            return own
        return publisher if self._is_complete(publisher) else own

    def paths(self, root: Path) -> list[Path]:
        r"""Returns the paths of the raw files under a root."""
        return [self.base(root) / file for file in self.files]

    def split_paths(self, root: Path, split: int | str) -> list[Path]:
        r"""Returns the file that a split is read from, if there is one: the first of
        :obj:`split_files` that exists, else the last.
        """
        if isinstance(split, str):
            return []
        paths = [root / "splits" / file for file in self.split_files]
        existing = [path for path in paths if path.is_file()]
        return existing[:1] or paths[-1:]

    def _is_complete(self, folder: Path) -> bool:
        return all((folder / file).is_file() for file in self.files)


def check_edges(path: Path, edge_index: Any, num_nodes: int) -> None:
    r"""Raises an error unless the edges :math:`(2, E)` that were read from a file join nodes."""
    is_list = edge_index.ndim == 2 and len(edge_index) == 2 and edge_index.shape[1] > 0
    if not is_list or not 0 <= edge_index.min() <= edge_index.max() < num_nodes:
        raise ValueError(f"{path} must hold pairs of node ids from 0 to {num_nodes - 1}")


def make_mask(path: Path, nodes: Tensor, num_nodes: int) -> Tensor:
    r"""Returns the mask :math:`(N, 1)` of the node ids that were read from a file."""
    check_node_ids(path, nodes, num_nodes)
    return index_to_mask(nodes, num_nodes).view(-1, 1)
