"""Stand-ins for other programs' Python modules, on top of everything else: OpenCV 4's `cv2.dnn` for Darknet's files
(cv2dnn), and Darknet's own Python binding (darknet, pjreddie). Nothing else in the package imports them."""
