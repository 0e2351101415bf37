"""XRec for Hugging Face: models, processor and pipeline.

The files of this folder travel to the Hub with every model, so each imports torch, transformers and its siblings only. This
module is not among them: it registers the classes with the Auto classes for those who have the package installed.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .collaborative_adapter import MixtureOfExpertsAdapter
from .configuration_xrec import XRecConfig
from .lightgcn import LightGCN
from .modeling_xrec import XRecForCausalLM, XRecModel
from .pipeline_xrec import TASK, RecommendationExplanationPipeline
from .processing_xrec import XRecProcessor

__all__ = [
    "LightGCN",
    "MixtureOfExpertsAdapter",
    "RecommendationExplanationPipeline",
    "XRecConfig",
    "XRecForCausalLM",
    "XRecModel",
    "XRecProcessor",
]

# Both ways in: registered classes load without trust_remote_code, and saving copies the code for those without the package.
AutoConfig.register("xrec", XRecConfig, exist_ok=True)
AutoModel.register(XRecConfig, XRecModel, exist_ok=True)
AutoModelForCausalLM.register(XRecConfig, XRecForCausalLM, exist_ok=True)
AutoProcessor.register(XRecConfig, XRecProcessor, exist_ok=True)
XRecConfig.register_for_auto_class()
XRecModel.register_for_auto_class("AutoModel")
XRecForCausalLM.register_for_auto_class("AutoModelForCausalLM")
XRecProcessor.register_for_auto_class("AutoProcessor")
PIPELINE_REGISTRY.register_pipeline(TASK, RecommendationExplanationPipeline, pt_model=(AutoModelForCausalLM,))
