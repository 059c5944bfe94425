"""The networks of facenet-pytorch, imported without the package by which it downloads weights. Nothing here does that,
and the package takes longer to import than the networks."""

from pipeline.models.lean import later, stand_ins

with stand_ins({"requests": later("requests"), "requests.adapters": later("requests.adapters", HTTPAdapter=None)}):
    from facenet_pytorch import MTCNN, InceptionResnetV1
    from facenet_pytorch.models.mtcnn import ONet
    from facenet_pytorch.models.utils import detect_face

__all__ = ["MTCNN", "InceptionResnetV1", "ONet", "detect_face"]
