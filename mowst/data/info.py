r"""The row of a data set in the registry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from torch_geometric.data import Data

from mowst.data.splits import Masks


@dataclass(frozen=True)
class DatasetInfo:
    r"""What is known of a data set and how to read it.

    Args:
        name (str): The name that users type.
        family (str): The folder of its family.
        read (callable): Makes the graph of the raw files, in the order of :obj:`files`. Published splits are its
            :obj:`train_mask`, :obj:`val_mask`, :obj:`test_mask` :math:`(N, S)`.
        draw (callable): Makes the masks of a seed, in the fractions of the published splits.
        protocol (str): The splits in words.
        folder (str, optional): The folder in the family's folder. (default: :obj:`""`)
        files (tuple[str, ...], optional): The raw files in that folder; none if the graph needs no file.
            (default: :obj:`()`)
        split_files (tuple[str, ...], optional): Files of published splits in :obj:`splits/`, of which any one will
            do. (default: :obj:`()`)
        urls (dict[str, str], optional): Where files can be downloaded, by their names above; a zip archive holds
            them below its top folder. (default: :obj:`{}`)
        sha256 (dict[str, str], optional): Known checksums of downloads, by the name of the file or the archive.
            (default: :obj:`{}`)
        cached (bool, optional): Whether reading is slow, so that the graph is kept in the cache.
            (default: :obj:`False`)
        num_nodes (int, optional): As published, :obj:`None` if not known. (default: :obj:`None`)
        num_edges (int, optional): Directed edges, each undirected edge counts twice. (default: :obj:`None`)
        num_features (int, optional): As published. (default: :obj:`None`)
        num_classes (int, optional): As published. (default: :obj:`None`)
        metric (str, optional): A key of :obj:`mowst.metrics.METRICS`. (default: :obj:`"accuracy"`)
        preprocessing (tuple[str, ...], optional): What is done to the raw graph. (default: :obj:`()`)
        home (str, optional): Where the files are published. (default: :obj:`""`)
        licence (str, optional): The licence of the files, :obj:`None` if not known. (default: :obj:`None`)
    """

    name: str
    family: str
    read: Callable[..., Data]
    draw: Callable[[Tensor, int], Masks]
    protocol: str
    folder: str = ""
    files: tuple[str, ...] = ()
    split_files: tuple[str, ...] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    cached: bool = False
    num_nodes: int | None = None
    num_edges: int | None = None
    num_features: int | None = None
    num_classes: int | None = None
    metric: str = "accuracy"
    preprocessing: tuple[str, ...] = ()
    home: str = ""
    licence: str | None = None

    @property
    def statistics(self) -> dict[str, int | None]:
        r"""What is published, by what it counts."""
        return {
            "nodes": self.num_nodes,
            "edges": self.num_edges,
            "features": self.num_features,
            "classes": self.num_classes,
        }

    def base(self, root: Path) -> Path:
        r"""The folder of the data set under a root."""
        return root / self.family / self.folder

    def paths(self, root: Path) -> list[Path]:
        r"""The raw files under a root, in the order of :obj:`files`."""
        return [self.base(root) / file for file in self.files]

    def split_paths(self, root: Path, split: int | str) -> list[Path]:
        r"""The file under a root that a split is read from, if there is one: the first that is there, else the last."""
        paths = [] if isinstance(split, str) else [root / "splits" / file for file in self.split_files]
        return [path for path in paths if path.is_file()][:1] or paths[-1:]
