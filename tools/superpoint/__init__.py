"""The workshop of the embedded SuperPoint: what trains and measures it. The method imports nothing from here.

train            the stages of training, and the export of the weights
labels           keypoints of free photos by homographic adaptation
trainer          one stage: loop and checkpoints
losses           of detector and descriptor
histograms       the classical descriptor that one of the losses follows
weights          initialisation, and the last layers adjusted by hand
samples          pairs of views with keypoints
shapes, photos   what the views are of
homographies     viewpoints
photometry       light and picture quality
benchmark        beside OpenCV's detectors, which `detectors` brings behind one interface
benchmark_faces  keypoints of faces, as the method uses them
"""
