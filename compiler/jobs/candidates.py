"""`candidates`: every way to run a layer, the simplest first. The cost model decides between them."""

from dataclasses import replace

from systolith.compiler.ir.graph import Conv, Graph, SfuOp
from systolith.compiler.jobs.array import plain
from systolith.compiler.jobs.depthwise import depthwise, is_depthwise
from systolith.compiler.jobs.job import Job
from systolith.compiler.jobs.packed import packings
from systolith.compiler.jobs.sfu import sfu_job
from systolith.compiler.layout.layout import Strides
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import form

__all__ = ["candidates"]

MAX_STEP = form("CONFIG.LOAD_A.window")["step"].high
"""Most bytes from one window of a load to the next."""


def candidates(graph: Graph, index: int, config: Config, resident: bool) -> list[Job]:
    """Jobs for a layer; `resident`: its input is in activation SRAM, so that nothing can be gathered on the way."""
    layer = graph.layers[index]
    if isinstance(layer, SfuOp):
        job = sfu_job(graph, index, layer, config.array)
        return [job] if resident else [job, *_thinned(job, config)]
    if not isinstance(layer, Conv):
        raise SystolithError(f"Layer '{layer.name}' must be a convolution or a map, not {layer.op}")
    jobs = [plain(graph, index, layer, config.array)]
    if is_depthwise(layer, config):
        jobs.append(depthwise(graph, index, layer, config.array))
    if not resident:
        jobs += _thinned(jobs[0], config)
        jobs += packings(graph, index, layer, config.array)
    return jobs


def _thinned(job: Job, config: Config) -> list[Job]:
    """The job, if it reads single words with strides, on only those rows and columns, which the load unit picks."""
    (stride_y, stride_x), source = job.stride, job.source
    single = job.kernel == (1, 1) and job.stride != (1, 1) and job.pad == (0, 0)
    inside = (job.rows - 1) * stride_y < job.height and (job.cols - 1) * stride_x < job.width
    if not single or not inside or stride_x * config.array > MAX_STEP:
        return []
    strides = Strides(source.image, source.block, source.row * stride_y, source.column * stride_x)
    return [replace(job, height=job.rows, width=job.cols, stride=(1, 1), dilation=(1, 1), source=strides)]
